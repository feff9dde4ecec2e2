// Echoes messages, and says first who the proxy says is there.
import { createRequire } from 'node:module'
const { WebSocketServer } = createRequire(process.env.MODULES + '/x.js')('ws')
const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
server.on('listening', () => console.log('127.0.0.1:' + server.address().port))
server.on('connection', (socket, request) => {
  socket.send('user ' + request.headers['x-remote-user'])
  socket.on('message', (data, binary) => socket.send(data, { binary }))
})
