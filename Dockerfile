# One image for every role: docker run … drawbridge serve --role proxy
FROM node:24-bookworm-slim AS build
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends g++ make python3 && rm -rf /var/lib/apt/lists/*
COPY package.json package-lock.json ./
COPY patches patches
# Native parts are built for the image's Node, whose headers are in /usr/local.
RUN npm ci --omit=dev --ignore-scripts \
 && npx patch-package --error-on-fail \
 && npm_config_nodedir=/usr/local npm rebuild ssh2 cpu-features
COPY . .

FROM node:24-bookworm-slim
# git serves file:// upstreams and tells a fast-forward from a force push.
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY --from=build /app /app
RUN install -d -o node -g node -m 0700 /var/lib/drawbridge /var/lib/drawbridge-ca /run/drawbridge
USER node
ENV DRAWBRIDGE_CONFIG=/etc/drawbridge/drawbridge.yaml
EXPOSE 8080 2222 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "cli/serve.ts"]
