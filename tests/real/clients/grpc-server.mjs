// Three calls: one answer, a stream, and a refusal in trailers.
import { createRequire } from 'node:module'
import path from 'node:path'
const require = createRequire(process.env.MODULES + '/x.js')
const grpc = require('@grpc/grpc-js'), loader = require('@grpc/proto-loader')
const { echo } = grpc.loadPackageDefinition(loader.loadSync(path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), 'echo.proto')))
const server = new grpc.Server()
server.addService(echo.Echo.service, {
  Hello: (call, done) => done(null, { text: call.request.text + ' ' + call.metadata.get('x-remote-user')[0] }),
  Count: call => { for (let i = 1; i <= call.request.number; i++) call.write({ number: i }); call.end() },
  Missing: (call, done) => done({ code: grpc.status.NOT_FOUND, details: 'not here' }),
})
server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => { if (error) throw error; console.log('127.0.0.1:' + port) })
