// dpop.mjs ISSUER SECRET NAME PASSWORD URL: openid-client gets a token of Keycloak that is bound to its key, and brings it to us.
// dpop.mjs ISSUER SECRET RESOURCE - URL: the same by a code, for a resource. It says where somebody signs in, and is told where
// that has led; the callback is that of the application at URL.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
const require = createRequire(process.env.MODULES + '/x.js')
const oauth = await import(pathToFileURL(require.resolve('openid-client')))
const [issuer, secret, username, password, url] = process.argv.slice(2)
const config = await oauth.discovery(new URL(issuer), 'proxy-dpop', {}, oauth.ClientSecretBasic(secret), { execute: [oauth.allowInsecureRequests] })
let last
config[oauth.customFetch] = (to, options) => { last = options.headers; return fetch(to, options) }
const handle = async () => oauth.getDPoPHandle(config, await oauth.randomDPoPKeyPair())
const [own, other] = [await handle(), await handle()]
const byCode = async resource => {
  const verifier = oauth.randomPKCECodeVerifier()
  const asked = { redirect_uri: new URL('/.authferry/cb/legacy', url).href, scope: 'openid', resource, code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' }
  console.log(oauth.buildAuthorizationUrl(config, asked).href)
  const { value } = await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()
  process.stdin.destroy()
  return oauth.authorizationCodeGrant(config, new URL(value), { pkceCodeVerifier: verifier }, { resource }, { DPoP: own })
}
const issued = password === '-' ? await byCode(username)
  : await oauth.genericGrantRequest(config, 'password', { username, password, scope: 'openid' }, { DPoP: own })
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
