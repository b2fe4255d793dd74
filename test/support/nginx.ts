import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gitOk } from './git.ts'
import { freePort, startProgram, temporaryFolder, untilAccepting } from './program.ts'

export interface Nginx {
  /** `http://127.0.0.1:port/`; `<folder>/acme/app.git` is `<url>acme/app.git`. */
  readonly url: string
  readonly port: number
  /** The one process that answers. */
  readonly worker: number
  /** Put repositories here. */
  readonly folder: string
  /** One line for each answered request: method, path with query, status, protocol asked, authorization given. */
  requests(): string[]
  stop(): Promise<void>
}

export interface NginxOptions {
  /** Ask for these; absent: anybody may read and write. */
  readonly basic?: { readonly username: string; readonly password: string }
  readonly bearer?: string
  readonly tls?: { readonly certificate: string; readonly key: string }
  /** Lines for the `server` block: further locations, a redirect, a delay. */
  readonly config?: readonly string[]
  /** Lines for the `http` block: further upstreams. */
  readonly http?: readonly string[]
  readonly folder?: string
}

// How many git-http-backend run at once; more wait in their sockets' queues.
const BACKENDS = 8

/** nginx in front of git-http-backend, as a team would host repositories itself. Ends with this process. */
export async function startNginx(options: NginxOptions = {}): Promise<Nginx> {
  const folder = options.folder ?? temporaryFolder('nginx')
  const run = temporaryFolder('ng')
  mkdirSync(join(run, 'tmp'))
  const port = await freePort()
  const sockets = Array.from({ length: BACKENDS }, (_, n) => join(run, `cgi${n}.sock`))
  const access = join(run, 'access.log')
  const backend = join(await gitOk(['--exec-path']), 'git-http-backend')
  if (options.basic) {
    const { username, password } = options.basic
    writeFileSync(join(run, 'htpasswd'), `${username}:{SHA}${createHash('sha1').update(password).digest('base64')}\n`)
  }
  const conf = join(run, 'nginx.conf')
  writeFileSync(conf, configuration({ ...options, folder, run, port, sockets, access, backend }))

  // One process each rather than fcgiwrap's own -c: its forked children would outlive a test runner that is killed.
  const wraps = await Promise.all(
    sockets.map(async path => {
      const wrap = await startProgram(program('fcgiwrap'), ['-f', '-s', `unix:${path}`])
      await untilAccepting(wrap, { path })
      return wrap
    }),
  )
  const nginx = await startProgram(program('nginx'), ['-e', 'stderr', '-p', run, '-c', conf], { deathSignal: 'TERM' })
  await untilAccepting(nginx, { port })
  return {
    url: `${options.tls ? 'https' : 'http'}://127.0.0.1:${port}/`,
    port,
    worker: Number(readFileSync(`/proc/${nginx.pid}/task/${nginx.pid}/children`, 'utf8')),
    folder,
    requests: () => (existsSync(access) ? readFileSync(access, 'utf8').split('\n').filter(Boolean) : []),
    stop: async () => {
      await nginx.stop()
      await Promise.all(wraps.map(wrap => wrap.stop()))
    },
  }
}

function program(name: string): string {
  return existsSync(`/usr/sbin/${name}`) ? `/usr/sbin/${name}` : name
}

interface Places {
  readonly folder: string
  readonly run: string
  readonly port: number
  readonly sockets: readonly string[]
  readonly access: string
  readonly backend: string
}

function configuration(options: NginxOptions & Places): string {
  const { run } = options
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    kind => `${kind}_temp_path ${run}/tmp/${kind};`,
  )
  const tls = options.tls
    ? [`ssl_certificate ${options.tls.certificate};`, `ssl_certificate_key ${options.tls.key};`]
    : []
  const basic = options.basic ? ['auth_basic git;', `auth_basic_user_file ${run}/htpasswd;`] : []
  const bearer = options.bearer ? [`if ($http_authorization != "Bearer ${options.bearer}") { return 401; }`] : []
  return `
daemon off;
${process.getuid?.() === 0 ? 'user root;' : ''}
pid ${run}/pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 1024; }
http {
  log_format requests '$request_method $request_uri $status "$http_git_protocol" "$http_authorization"';
  access_log ${options.access} requests;
  ${temporary.join('\n  ')}
  client_max_body_size 0;
  upstream backends {
    least_conn;
    ${options.sockets.map(path => `server unix:${path};`).join('\n    ')}
  }
  ${(options.http ?? []).join('\n  ')}
  server {
    listen 127.0.0.1:${options.port}${options.tls ? ' ssl' : ''};
    ${[...tls, ...basic, ...bearer, ...(options.config ?? [])].join('\n    ')}
    location / {
      fastcgi_pass backends;
      fastcgi_buffering off;
      fastcgi_read_timeout 600s;
      fastcgi_param SCRIPT_FILENAME ${options.backend};
      fastcgi_param GIT_PROJECT_ROOT ${options.folder};
      fastcgi_param GIT_HTTP_EXPORT_ALL 1;
      fastcgi_param GIT_CONFIG_NOSYSTEM 1;
      fastcgi_param GIT_CONFIG_GLOBAL /dev/null;
      fastcgi_param PATH_INFO $uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
    }
  }
}
`
}
