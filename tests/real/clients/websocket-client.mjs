// websocket-client.mjs URL TOKEN: sends a hundred messages of growing size and wants each back.
import { createRequire } from 'node:module'
const WebSocket = createRequire(process.env.MODULES + '/x.js')('ws')
const [url, token] = process.argv.slice(2)
const socket = new WebSocket(url, { headers: { authorization: 'Bearer ' + token, host: '127.0.0.1' } })
let sent = 0, expected
const next = () => { expected = Buffer.alloc(sent * 1000, 97 + (sent % 26)); socket.send(expected, { binary: true }); sent++ }
socket.on('error', e => { console.error(String(e.message)); process.exit(1) })
socket.on('message', (data, binary) => {
  if (!binary) { console.log(String(data)); return next() }
  if (!data.equals(expected)) { console.error('a message came back changed'); process.exit(1) }
  if (sent < 100) return next()
  console.log('echo 100 messages'); socket.close(1000)
})
socket.on('close', code => process.exit(code === 1000 ? 0 : 1))
setTimeout(() => { console.error('no end in time'); process.exit(1) }, 15000).unref()
