// A second, scriptable OpenID provider on panva's certified oidc-provider. Everything here is configuration, the
// login page and a few switches; the protocol is the library's.
//   OP_PORT=8280 OP_TLS_PORT=8281 OP_NAME=old OP_TOKENS=opaque|jwt OP_NONCE=0|1 OP_PKI=dir PROXY_ORIGIN=http://127.0.0.1:9080
//   OP_CROWD=1000         besides the named people, p0001 … p1000 with the legacy uids 20001 …
//   OP_SUB=legacy|uuid    what "sub" looks like (an old provider knows bob as 1002)
// POST /__test/rotate-keys  a new signing key goes first, the old one stays published
// POST /__test/drop-key     ... and now the old one is gone
// POST /__test/fault {"path":"/token","status":503,"count":3,"delay_ms":0,"retry_after":1}   the next answers fail
// GET  /__test/seen         how often each person signed in here; by person, how many authorize requests gave a code, how many codes were redeemed; how many refresh tokens
//                       were given for another one (consumed) or given back (destroyed, RFC 7009)
// POST /__test/accounts/NAME {"disabled":true}
// POST /__test/end/SUB  ends whatever somebody was given
import http from 'node:http'; import https from 'node:https'; import fs from 'node:fs'; import crypto from 'node:crypto'
import path from 'node:path'; import { createRequire } from 'node:module'; import { pathToFileURL } from 'node:url'
const require = createRequire(path.join(process.env.OP_MODULES, 'x.js'))
const { default: Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')))
const E = process.env, PORT = Number(E.OP_PORT ?? 8280), TLS = Number(E.OP_TLS_PORT ?? PORT + 1), PX = E.PROXY_ORIGIN ?? 'http://127.0.0.1:9080'
const ISSUER = `http://127.0.0.1:${PORT}`, JWT = E.OP_TOKENS === 'jwt', SALT = E.OP_SALT ?? ''
const salted = s => SALT ? s + '-' + crypto.createHash('sha256').update(SALT + s).digest('hex').slice(0, 12) : s
const T_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

const accounts = Object.fromEntries([['alice', '1001', ['staff', 'beta'], true], ['bob', '1002', ['testers', 'beta']], ['carol', '1003', ['customers']], ['dave', '1004', ['customers']], ['erin', '1005', ['customers']],
  ...Array.from({ length: Number(E.OP_CROWD ?? 0) }, (_, i) => ['p' + String(i + 1).padStart(4, '0'), String(20001 + i), ['customers']])]
  .map(([n, uid, groups, otp]) => { const sub = E.OP_SUB === 'uuid' ? crypto.createHash('sha256').update((E.OP_NAME ?? '') + n).digest('hex').slice(0, 32) : uid
    return [sub, { sub, name: n, uid, groups, otp, password: salted(n + '-pw') }] }))
const byName = n => Object.values(accounts).find(a => a.name === n)
const totp = step => { const c = Buffer.alloc(8); c.writeBigUInt64BE(BigInt(step)); const h = crypto.createHmac('sha1', '12345678901234567890').update(c).digest(), o = h[19] & 15; return String((h.readUInt32BE(o) & 0x7fffffff) % 1e6).padStart(6, '0') }

// Keys go through PEM: on Node 20, generateKeyPairSync(...).privateKey.export({ format: 'jwk' }) now and then deadlocks for good
// (a garbage collection inside the export destroys the generation job, which waits for the mutex the export holds).
const gen = (type, o) => crypto.createPrivateKey(crypto.generateKeyPairSync(type, { ...o, publicKeyEncoding: { type: 'spki', format: 'pem' }, privateKeyEncoding: { type: 'pkcs8', format: 'pem' } }).privateKey).export({ format: 'jwk' })
const mk = () => ({ ...gen('rsa', { modulusLength: 2048 }), kid: crypto.randomUUID(), use: 'sig', alg: 'RS256' })
const ec = () => ({ ...gen('ec', { namedCurve: 'P-256' }), kid: crypto.randomUUID(), use: 'sig', alg: 'ES256' })
const jwtJwks = E.OP_PKI ? JSON.parse(fs.readFileSync(path.join(E.OP_PKI, 'jwt.jwks'))) : undefined
const selfSigned = () => { const c = new crypto.X509Certificate(fs.readFileSync(path.join(E.OP_PKI, 'client-self-signed.crt'))); return { keys: [{ ...c.publicKey.export({ format: 'jwk' }), use: 'sig', x5c: [c.raw.toString('base64')] }] } }
const web = { redirect_uris: [`${PX}/.authferry/cb/legacy`, `${PX}/.authferry/cb/modern`], post_logout_redirect_uris: [`${PX}/.authferry/logout/done`, `${PX}/`], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] }
const svc = { redirect_uris: [], response_types: [], grant_types: ['client_credentials'] }
const bcl = { backchannel_logout_uri: `${PX}/.authferry/bcl/legacy`, backchannel_logout_session_required: true }
const clients = [
  { client_id: 'proxy', client_secret: salted('proxy-secret'), ...web, ...bcl },
  { client_id: 'proxy-post', client_secret: salted('proxy-post-secret'), token_endpoint_auth_method: 'client_secret_post', ...web },
  { client_id: 'proxy-public', token_endpoint_auth_method: 'none', ...web },
  { client_id: 'svc', client_secret: salted('svc-secret'), ...svc },
  { client_id: 'proxy-exchange', client_secret: salted('proxy-exchange-secret'), ...svc, grant_types: ['client_credentials', T_EXCHANGE] },
  { client_id: 'proxy-dpop', client_secret: salted('proxy-dpop-secret'), ...web, dpop_bound_access_tokens: true },
  { client_id: 'proxy-mtls', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'O=authferry test\nCN=proxy-mtls', tls_client_certificate_bound_access_tokens: true, ...web, grant_types: ['client_credentials', 'authorization_code'] },
  ...(E.OP_PKI ? [{ client_id: 'proxy-self-signed', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: selfSigned(), ...web }] : []),
  { client_id: 'proxy-secret-jwt', client_secret: salted('proxy-secret-jwt-secret'), token_endpoint_auth_method: 'client_secret_jwt', ...web },
  { client_id: 'proxy-jwt', token_endpoint_auth_method: 'private_key_jwt', jwks: jwtJwks, ...svc },
  { client_id: 'proxy-par', client_secret: salted('proxy-par-secret'), require_pushed_authorization_requests: true, ...web },
  { client_id: 'tv', token_endpoint_auth_method: 'none', redirect_uris: [], response_types: [], grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'] },
  { client_id: 'legacy-api', client_secret: salted('legacy-api-secret'), redirect_uris: [], response_types: [], grant_types: [] },
]

const page = (t, b) => `<!doctype html><meta charset=utf-8><title>${t}</title><h1>${t}</h1>${b}`
const config = {
  clients, jwks: { keys: [mk(), ec()] }, cookies: { keys: [crypto.randomBytes(24).toString('hex')] },
  scopes: ['openid', 'offline_access', 'profile', 'email', 'groups', 'legacy:read'],
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'legacy_uid'], email: ['email', 'email_verified'], groups: ['groups'] },
  conformIdTokenClaims: false, pkce: { required: () => true }, clientBasedCORS: () => false,
  findAccount: (ctx, sub) => { const a = accounts[sub]; return a && !a.disabled ? { accountId: sub, claims: () => ({ sub, name: a.name, preferred_username: a.name, legacy_uid: a.uid, email: `${a.name}@example.test`, email_verified: true, groups: a.groups }) } : undefined },
  interactions: { url: (ctx, i) => `/interaction/${i.uid}` },
  async loadExistingGrant(ctx) {                              // first-party: consent is given on the login page
    const id = ctx.oidc.result?.consent?.grantId ?? ctx.oidc.session.grantIdFor(ctx.oidc.client.clientId)
    if (id) { const g = await ctx.oidc.provider.Grant.find(id); if (g) return g }
    const g = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId })
    g.addOIDCScope('openid offline_access profile email groups'); g.addResourceScope('urn:legacy-api', 'legacy:read'); await g.save(); return g },
  issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  ttl: { AccessToken: Number(E.OP_ACCESS_TTL ?? 300), ClientCredentials: 300, AuthorizationCode: 60, IdToken: 300, DeviceCode: 120, RefreshToken: 3600, Interaction: 600, Session: 3600, Grant: 3600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true }, introspection: { enabled: true, allowedPolicy: () => true }, jwtIntrospection: { enabled: true }, revocation: { enabled: true },
    deviceFlow: { enabled: true, userCodeInputSource: (ctx, form) => { ctx.body = page('Device', form.replace('</form>', '<button type=submit>Continue</button></form>')) },
      userCodeConfirmSource: (ctx, form, client, info, code) => { ctx.body = page('Confirm ' + code, form.replace('</form>', '<button type=submit>Continue</button></form>')) },
      successSource: ctx => { ctx.body = page('Signed in', 'Device connected') } },
    backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true, logoutSource: (ctx, form) => { ctx.body = page('Log out?', form.replace('</form>', '<button type=submit name=logout value=yes>Yes</button></form>')) } },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: () => E.OP_NONCE === '1' },
    mTLS: { enabled: true, certificateBoundAccessTokens: true, tlsClientAuth: true, selfSignedTlsClientAuth: true,
      getCertificate: ctx => { const c = ctx.socket.getPeerX509Certificate?.(); return c },
      certificateAuthorized: ctx => ctx.socket.authorized === true, certificateSubjectMatches: (ctx, prop, want) => prop === 'tls_client_auth_subject_dn' && ctx.socket.getPeerX509Certificate().subject === want },
    pushedAuthorizationRequests: { enabled: true },
    resourceIndicators: { enabled: true, defaultResource: ctx => JWT ? 'urn:legacy-api' : undefined, useGrantedResource: () => true,
      getResourceServerInfo: (ctx, r) => { if (r !== 'urn:legacy-api') throw new errors.InvalidTarget(); return { scope: 'legacy:read', audience: r, accessTokenTTL: 300, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } } } },
  },
  discovery: { mtls_endpoint_aliases: Object.fromEntries(['token', 'introspection', 'revocation'].map(n => [n + '_endpoint', `https://127.0.0.1:${TLS}/token${n === 'token' ? '' : '/' + n}`])) },
  // The library refuses to call loopback addresses (SSRF guard). Its own `fetch` hook lifts that for the proxy's origin alone.
  fetch: (url, { dispatcher, ...o }) => globalThis.fetch(url, new URL(url).origin === PX ? o : { ...o, dispatcher }),
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'],
  renderError: (ctx, out) => { ctx.type = 'html'; ctx.body = page('Error', `<pre>${JSON.stringify(out).replace(/</g, '&lt;')}</pre>`) },
}

// The provider object is rebuilt on a key change with the adapter's (in-memory) state kept.
const store = new Map()
class Adapter {
  constructor(m) { this.m = m } k(id) { return `${this.m}:${id}` }
  async upsert(id, p, ttl) { store.set(this.k(id), { ...p, _exp: ttl ? Date.now() + ttl * 1000 : Infinity }) }
  async find(id) { const v = store.get(this.k(id)); if (!v || v._exp < Date.now()) return; const { _exp, ...p } = v; return p }
  async #by(f, x) { for (const [k, v] of store) if (k.startsWith(this.m + ':') && v[f] === x) return this.find(k.slice(this.m.length + 1)) }
  findByUid(u) { return this.#by('uid', u) } findByUserCode(c) { return this.#by('userCode', c) }
  async destroy(id) { store.delete(this.k(id)) } async consume(id) { store.get(this.k(id)).consumed = Math.floor(Date.now() / 1000) }
  async revokeByGrantId(g) { for (const [k, v] of store) if (v.grantId === g) store.delete(k) }
}
config.adapter = Adapter
function build() {
  const p = new Provider(ISSUER, structuredCloneConfig())
  p.registerGrantType(T_EXCHANGE, async ctx => {               // RFC 8693: a token of ours -> a token for another audience
    const { client, params, provider } = ctx.oidc
    const want = 'urn:ietf:params:oauth:token-type:access_token'
    if (params.subject_token_type !== want || !params.subject_token) throw new errors.InvalidRequest('subject_token and subject_token_type are required')
    const t = await provider.AccessToken.find(params.subject_token) ?? (params.subject_token.includes('.') ? await jwtSubject(p, params.subject_token) : undefined)
    if (!t || !t.isValid) throw new errors.InvalidGrant('subject_token is invalid or expired')
    if (params.audience && params.audience !== 'legacy-api') throw new errors.InvalidTarget()
    if (!accounts[t.accountId] || accounts[t.accountId].disabled) throw new errors.InvalidGrant('account')
    if (accounts[t.accountId].groups.includes('customers')) throw new errors.InvalidTarget('customers may not be exchanged into legacy-api')
    const at = new provider.AccessToken({ accountId: t.accountId, client, grantId: t.grantId, gty: T_EXCHANGE, scope: params.scope ?? 'legacy:read', aud: 'urn:legacy-api' })
    at.resourceServer = new provider.ResourceServer('urn:legacy-api', { scope: 'legacy:read', audience: 'urn:legacy-api', accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'RS256' } } })
    ctx.body = { access_token: await at.save(), issued_token_type: want, token_type: at.tokenType, expires_in: at.expiration, scope: at.scope } }, ['subject_token', 'subject_token_type', 'audience', 'scope', 'requested_token_type', 'actor_token', 'actor_token_type'], [])
  const count = (ctx, what) => { const c = seen.people[ctx.oidc.account.accountId] ??= { authorized: 0, redeemed: 0 }; c[what]++ }
  p.on('authorization.success', ctx => count(ctx, 'authorized'))
  p.on('grant.success', ctx => { if (ctx.oidc.params.grant_type === 'authorization_code') count(ctx, 'redeemed') })
  for (const what of ['consumed', 'destroyed']) p.on(`refresh_token.${what}`, t => { const c = seen.tokens[t.accountId] ??= { consumed: 0, destroyed: 0 }; c[what]++ })
  p.on('server_error', (ctx, e) => console.error('server_error', e)); p.on('grant.error', (ctx, e) => console.error('grant.error', e.message, e.error_description, e.error_detail ?? ''))
  p.on('backchannel.error', (ctx, e, c) => console.error('backchannel.error', c.clientId, e.message, e.cause)); p.on('backchannel.success', (ctx, c) => console.error('backchannel.success', c.clientId))
  return p
}
function structuredCloneConfig() { return { ...config, jwks: { keys: config.jwks.keys.map(k => ({ ...k })) } } }
async function jwtSubject(p, tok) { try { const [h, b, s] = tok.split('.'), hd = JSON.parse(Buffer.from(h, 'base64url')), k = config.jwks.keys.find(x => x.kid === hd.kid)
  if (!k || hd.alg !== 'RS256' || !crypto.verify('sha256', Buffer.from(`${h}.${b}`), crypto.createPublicKey({ key: k, format: 'jwk' }), Buffer.from(s, 'base64url'))) return
  const c = JSON.parse(Buffer.from(b, 'base64url')); if (c.iss !== ISSUER || c.exp < Date.now() / 1000) return
  return { isValid: true, accountId: c.sub, grantId: undefined } } catch { } }
let op = build(), cb = op.callback(); const faults = [], seen = { sign_ins: {}, people: {}, tokens: {} }
const body = req => new Promise(r => { let s = ''; req.on('data', d => s += d); req.on('end', () => r(s)) })
async function handle(req, res) {
  const u = new URL(req.url, ISSUER), send = (st, b, h = {}) => { res.writeHead(st, { 'content-type': typeof b === 'string' ? 'text/html; charset=utf-8' : 'application/json', ...h }); res.end(typeof b === 'string' ? b : JSON.stringify(b)) }
  try {
    if (u.pathname === '/__test/seen') return send(200, seen)
    if (u.pathname.startsWith('/__test/') && req.method === 'POST') {
      const d = JSON.parse(await body(req) || '{}'), what = u.pathname.slice(8)
      if (what === 'rotate-keys') { config.jwks.keys.unshift(mk()); op = build(); cb = op.callback() }
      else if (what === 'drop-key') { const i = config.jwks.keys.findLastIndex(k => k.alg === 'RS256'); if (config.jwks.keys.filter(k => k.alg === 'RS256').length > 1) config.jwks.keys.splice(i, 1); op = build(); cb = op.callback() }
      else if (what === 'fault') faults.push({ count: 1, ...d }); else if (what === 'clear-faults') faults.length = 0
      else if (what.startsWith('end/')) { for (const [k, v] of store) if (v.accountId === what.slice(4)) store.delete(k) }
      else if (what.startsWith('accounts/')) Object.assign(byName(what.slice(9)), d); else return send(404, {})
      return send(200, { ok: true, kids: config.jwks.keys.map(k => k.kid) })
    }
    const f = faults.find(x => x.count > 0 && u.pathname === x.path)
    if (f) { f.count--; if (f.delay_ms) await new Promise(r => setTimeout(r, f.delay_ms)); if (f.reset) return req.socket.destroy(); if (f.status) return send(f.status, { error: 'temporarily_unavailable' }, f.retry_after ? { 'retry-after': String(f.retry_after) } : {}) }
    const m = u.pathname.match(/^\/interaction\/([\w-]+)$/)
    if (m) {
      const d = await op.interactionDetails(req, res), form = msg => page('Sign in', `<p>${msg}</p><form method=post action="/interaction/${m[1]}"><input name=username><input name=password type=password><input name=otp inputmode=numeric autocomplete=one-time-code><button type=submit>Sign in</button></form>`)
      if (req.method === 'GET') return send(200, form(d.prompt.name))
      const q = new URLSearchParams(await body(req)), a = byName(q.get('username')), step = Math.floor(Date.now() / 30000)
      const good = a && !a.disabled && q.get('password') === a.password && (!a.otp || [0, -1].some(x => totp(step + x) === q.get('otp')))
      if (!good) return send(401, form('Wrong name, password or code'))
      seen.sign_ins[a.name] = (seen.sign_ins[a.name] ?? 0) + 1
      return await op.interactionFinished(req, res, { login: { accountId: a.sub, acr: a.otp ? 'urn:mfa' : 'urn:pwd', amr: a.otp ? ['pwd', 'otp'] : ['pwd'], remember: true } }, { mergeWithLastSubmission: false })
    }
    return cb(req, res)
  } catch (e) { console.error(e); send(e.statusCode ?? 500, page('Error', String(e.message))) }
}
http.createServer(handle).listen(PORT, '127.0.0.1', () => console.log('listening', ISSUER))
if (E.OP_PKI) https.createServer({ key: fs.readFileSync(path.join(E.OP_PKI, 'server.key')), cert: fs.readFileSync(path.join(E.OP_PKI, 'server.crt')), ca: fs.readFileSync(path.join(E.OP_PKI, 'ca.crt')), requestCert: true, rejectUnauthorized: false }, handle).listen(TLS, '127.0.0.1')
