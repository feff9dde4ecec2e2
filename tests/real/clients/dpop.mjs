// dpop.mjs ISSUER SECRET NAME PASSWORD URL: openid-client gets a token of Keycloak that is bound to its key, and brings it to us.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
const require = createRequire(process.env.MODULES + '/x.js')
const oauth = await import(pathToFileURL(require.resolve('openid-client')))
const [issuer, secret, username, password, url] = process.argv.slice(2)
const config = await oauth.discovery(new URL(issuer), 'proxy-dpop', {}, oauth.ClientSecretBasic(secret), { execute: [oauth.allowInsecureRequests] })
let last
config[oauth.customFetch] = (to, options) => { last = options.headers; return fetch(to, options) }
const handle = async () => oauth.getDPoPHandle(config, await oauth.randomDPoPKeyPair())
const [own, other] = [await handle(), await handle()]
const issued = await oauth.genericGrantRequest(config, 'password', { username, password, scope: 'openid' }, { DPoP: own })
console.log('type ' + issued.token_type.toLowerCase())
const brought = async DPoP => {
  try { return (await oauth.fetchProtectedResource(config, issued.access_token, new URL(url), 'GET', undefined, undefined, { DPoP })).status }
  catch (error) { if (!error.status) throw error; return error.status }
}
const sent = async headers => (await fetch(url, { headers })).status
console.log('own key ' + await brought(own))
const used = last
console.log('same proof ' + await sent(used))
console.log('another proof ' + await brought(own))
console.log('another key ' + await brought(other))
console.log('no proof ' + await sent({ authorization: 'DPoP ' + issued.access_token }))
console.log('as bearer ' + await sent({ authorization: 'Bearer ' + issued.access_token }))
