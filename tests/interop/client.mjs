// openid-client (npm) against our token endpoint and two applications behind us: one line a step, `STEP<TAB>OUTCOME`.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import * as oauth from 'openid-client';
import { Agent, fetch as undiciFetch } from 'undici';

const given = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const ca = readFileSync(given.ca);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (step, outcome) => console.log(`${step}\t${outcome}`);
const over = (agent) => (url, options) => undiciFetch(url, { ...options, dispatcher: agent });
const plain = over(new Agent({ connect: { ca } }));
const withCertificate = over(new Agent({ connect: { ca, cert: readFileSync(given.certificate), key: readFileSync(given.key) } }));

const at = (id, authentication, fetch = plain) =>
  oauth.discovery(new URL(given.issuer), id, {}, authentication, { algorithm: 'oauth2', [oauth.customFetch]: fetch });

async function step(name, work) {
  try {
    say(name, (await work()) ?? 'ok');
  } catch (error) {
    say(name, error.error ? `refused ${error.error}` : error.status ? `refused ${error.status}` : `failed ${error.message} ${error.cause?.message ?? ''}`);
  }
}

const ask = async (config, token, api, options) => {
  const answer = await oauth.fetchProtectedResource(config, token, new URL(given[api]), 'GET', undefined, undefined, options);
  if (!answer.ok) throw Object.assign(new Error('refused'), { status: answer.status });
  if (!(api in given.issuers)) return 'ok';
  const carried = /authorization: bearer [^.]*\.([^.]*)\./i.exec(await answer.text());
  const issuer = JSON.parse(Buffer.from(carried[1], 'base64url')).iss;
  return issuer === given.issuers[api] ? 'ok' : `wrong issuer ${issuer}`;
};

const claims = (token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
const works = (work) => work().then(() => true, () => false);

const config = await at('kept', oauth.ClientSecretBasic(given.secret));
const fresh = {};
for (const side of ['old', 'new']) {
  const own = await at(side, oauth.ClientSecretPost(given.secret));
  await step(`client_credentials ${side}`, async () => {
    fresh[side] = (await oauth.clientCredentialsGrant(own, { audience: 'app' })).access_token;
  });
  for (const api of ['api_old', 'api_new']) await step(`${side} token at ${api}`, () => ask(own, fresh[side], api));
}
let held;
await step('refresh what the old provider gave', async () => {
  held = await oauth.refreshTokenGrant(config, given.refresh_token);
});
const spent = held.refresh_token;
await step('refresh again', async () => {
  held = await oauth.refreshTokenGrant(config, held.refresh_token);
});
await step('token exchange', async () => {
  await oauth.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', {
    subject_token: held.access_token, subject_token_type: 'urn:ietf:params:oauth:token-type:access_token', audience: 'app',
  });
});
await step('introspect', async () => {
  const said = await oauth.tokenIntrospection(config, held.access_token);
  return said.active ? 'ok' : 'inactive';
});
await step('a spent refresh token', () => oauth.refreshTokenGrant(config, spent).then(() => 'ok'));
await step('and its family', () => oauth.refreshTokenGrant(config, held.refresh_token).then(() => 'ok'));
await step('device', async () => {
  const started = await oauth.initiateDeviceAuthorization(config, {});
  held = await oauth.pollDeviceAuthorizationGrant(config, started);
});
await step('revoke', () => oauth.tokenRevocation(config, held.refresh_token));
await step('refresh what was revoked', () => oauth.refreshTokenGrant(config, held.refresh_token).then(() => 'ok'));
await step('a wrong secret', async () => {
  const wrong = await at('kept', oauth.ClientSecretBasic('wrong'));
  await oauth.clientCredentialsGrant(wrong, { audience: 'app' });
});
await step('client certificate', async () => {
  const own = await at('certified', oauth.TlsClientAuth(), withCertificate);
  await oauth.clientCredentialsGrant(own, { audience: 'app' });
});
// Tokens that are bound: the test signs one for our key, and one for our certificate.
const pair = await oauth.randomDPoPKeyPair();
const handle = oauth.getDPoPHandle(config, pair);
console.log(`bound to\t${await handle.calculateThumbprint()}`);
const { dpop, mtls } = JSON.parse((await lines.next()).value);
const certified = await at('certified', oauth.TlsClientAuth(), withCertificate);
for (const api of ['api_old', 'api_new', 'api_plain']) {
  await step(`DPoP token at ${api}`, () => ask(config, dpop, api, { DPoP: handle }));
  await step(`mTLS token at ${api}`, () => ask(certified, mtls, api));
}
await step('DPoP token without a proof', () => ask(config, dpop, 'api_plain'));
await step('mTLS token without its certificate', () => ask(config, mtls, 'api_plain'));
// And those that our endpoint binds: to what the client proved when it asked.
await step('DPoP token of our endpoint', async () => {
  const keyed = await at('keyed', oauth.ClientSecretBasic(given.secret));
  const own = oauth.getDPoPHandle(keyed, pair);
  const got = await oauth.clientCredentialsGrant(keyed, { audience: 'bound' }, { DPoP: own });
  if (got.token_type !== 'dpop') return `of the type ${got.token_type}`;
  const jkt = claims(got.access_token).cnf.jkt;
  if (jkt !== (await own.calculateThumbprint())) return `bound to ${jkt}`;
  if (await works(() => ask(keyed, got.access_token, 'api_plain'))) return 'good without a proof';
  return ask(keyed, got.access_token, 'api_plain', { DPoP: own });
});
await step('mTLS token of our endpoint', async () => {
  const got = await oauth.clientCredentialsGrant(certified, { audience: 'bound' });
  if (!claims(got.access_token).cnf['x5t#S256']) return 'bound to nothing';
  if (await works(() => ask(config, got.access_token, 'api_plain'))) return 'good without its certificate';
  return ask(certified, got.access_token, 'api_plain');
});
process.exit(0);
