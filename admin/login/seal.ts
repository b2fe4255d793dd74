import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'

/** Hides what the identity provider gave us for a person from whoever reads the database, or a copy of it. */
export interface Seal {
  close(text: string): string
  /** Undefined for what was not closed by this key. */
  open(sealed: string): string | undefined
}

const PURPOSE = 'drawbridge sign-in v1'
const IV_BYTES = 12
const TAG_BYTES = 16

/** @param secret a key of the control plane, from which one of this purpose alone is made */
export function createSeal(secret: Buffer): Seal {
  const key = Buffer.from(hkdfSync('sha256', secret, '', PURPOSE, 32))
  return {
    close: text => {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv('aes-256-gcm', key, iv)
      const hidden = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
      return Buffer.concat([iv, hidden, cipher.getAuthTag()]).toString('base64url')
    },
    open: sealed => {
      const bytes = Buffer.from(sealed, 'base64url')
      if (bytes.length < IV_BYTES + TAG_BYTES) return undefined
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
      decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
      try {
        const hidden = bytes.subarray(IV_BYTES, -TAG_BYTES)
        return Buffer.concat([decipher.update(hidden), decipher.final()]).toString('utf8')
      } catch {
        return undefined
      }
    },
  }
}
