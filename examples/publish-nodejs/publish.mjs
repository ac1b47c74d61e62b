// Defines a project: publishes the command and prints its outcome.
//
//     npm ci
//     export SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject billing)
//     node publish.mjs shop
//
// Exits with 0 when the command was accepted, with 1 when it was rejected or no outcome came in time.
import { createHash, createHmac, randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'

const { Kafka, Partitioners, logLevel } = kafkajs
const {
  SIGNALBOX_KAFKA = '127.0.0.1:9092',
  SIGNALBOX_KAFKA_PREFIX: prefix = 'signalbox',
  SIGNALBOX_ORG: organization = 'default',
  SIGNALBOX_COMMAND_TOKEN: token = '',
  SIGNALBOX_KAFKA_MECHANISM: mechanism,
  SIGNALBOX_KAFKA_USERNAME: username,
  SIGNALBOX_KAFKA_PASSWORD: password,
} = process.env

const kafka = new Kafka({
  clientId: 'billing',
  brokers: SIGNALBOX_KAFKA.split(','),
  logLevel: logLevel.ERROR,
  // TLS and SASL: ssl: { ca: [readFileSync('ca.pem')] } too, and key, cert, for mutual TLS
  sasl: mechanism && { mechanism: mechanism.toLowerCase(), username, password },
})

async function defineProject(project) {
  const id = randomUUID()
  const topic = `${prefix}.outcomes`
  const admin = kafka.admin()
  // Kafka's own partitioner, under any version of kafkajs:
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  const groupId = `billing-${id}`
  const outcomes = kafka.consumer({ groupId })
  await Promise.all([admin.connect(), producer.connect(), outcomes.connect()])
  try {
    // Before the command is sent, so that its outcome is not missed.
    const ends = await admin.fetchTopicOffsets(topic)
    await outcomes.subscribe({ topic })
    const answered = outcomeOf(id, outcomes, () => {
      for (const { partition, high } of ends) outcomes.seek({ topic, partition, offset: high })
    })
    answered.catch(() => {}) // it is awaited below
    // If you do not know whether it arrived, send it again with the same id.
    await producer.send({ topic: `${prefix}.commands`, acks: -1, messages: [command(id, project)] })
    return await answered
  } finally {
    await Promise.all([producer.disconnect(), outcomes.disconnect()])
    await admin.deleteGroups([groupId]) // kafkajs only reads in a group; this one is no longer needed
    await admin.disconnect()
  }
}

function command(id, project) {
  const type = 'io.signalbox.project.command.define.v1'
  const value = JSON.stringify({ organization, name: project })
  return {
    key: organization,
    value,
    headers: {
      ce_specversion: '1.0',
      ce_id: id,
      ce_type: type,
      ce_source: '/billing',
      ce_authorization: authorization(id, type, value),
      'content-type': 'application/json',
    },
  }
}

// Binds the token to this command: readers of the topic cannot use it for another one.
function authorization(id, type, value) {
  const [jwt, secret = ''] = token.split('~')
  const body = createHash('sha256').update(value).digest('hex')
  const subject = '' // the attribute subject, which this command does not have
  const text = ['signalbox-command-v1', organization, id, type, subject, body].join('\n')
  return `${jwt}~${createHmac('sha256', secret).update(text).digest('hex')}`
}

function outcomeOf(id, consumer, begin) {
  return new Promise((resolve, reject) => {
    const message = `no outcome yet; to send the command again, use its id: ${id}`
    const timer = setTimeout(() => reject(new Error(message)), 30_000)
    const done = (settle, value) => {
      clearTimeout(timer)
      settle(value)
    }
    consumer
      .run({
        autoCommit: false,
        eachMessage: async ({ message: { headers } }) => {
          const header = (name) => headers[name]?.toString() ?? ''
          if (header('ce_causationid') !== id) return
          done(resolve, {
            accepted: header('ce_outcome') === 'accepted',
            rule: header('ce_outcomerule'),
            message: header('ce_outcomemessage'),
          })
        },
      })
      .then(begin)
      .catch((error) => done(reject, error))
  })
}

const [project] = process.argv.slice(2)
if (!project) {
  console.error('usage: node publish.mjs PROJECT')
  process.exit(3)
}
try {
  const { accepted, rule, message } = await defineProject(project)
  console.log(accepted ? 'accepted' : `rejected: ${rule}: ${message}`)
  process.exitCode = accepted ? 0 : 1
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
