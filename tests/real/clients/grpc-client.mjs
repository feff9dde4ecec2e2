// grpc-client.mjs ADDRESS TOKEN
import { createRequire } from 'node:module'
import path from 'node:path'
const require = createRequire(process.env.MODULES + '/x.js')
const grpc = require('@grpc/grpc-js'), loader = require('@grpc/proto-loader')
const [address, token] = process.argv.slice(2)
const { echo } = grpc.loadPackageDefinition(loader.loadSync(path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), 'echo.proto')))
const client = new echo.Echo(address, grpc.credentials.createInsecure(), { 'grpc.default_authority': '127.0.0.1' })
const metadata = new grpc.Metadata(); metadata.set('authorization', 'Bearer ' + token)
const deadline = () => ({ deadline: Date.now() + 10000 })
const fail = error => { console.error(String(error)); process.exit(1) }
client.Hello({ text: 'hello' }, metadata, deadline(), (error, answer) => {
  if (error) fail(error)
  console.log('unary ' + answer.text)
  let last = 0
  client.Count({ number: 50 }, metadata, deadline()).on('data', d => { last = d.number }).on('error', fail).on('end', () => {
    console.log('stream ' + last)
    client.Missing({ text: '' }, metadata, deadline(), error => { console.log('status ' + error.code + ' ' + error.details); process.exit(0) })
  })
})
