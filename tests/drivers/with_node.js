// node-postgres: pools, prepared statements by name, transactions, listeners, cancel by timeout; and a migration as Prisma runs it.
'use strict'

const { Client, Pool } = require('pg')

const [dsn, count] = [process.argv[2], Number(process.argv[3])]
const failures = []
let checks = 0

function same(actual, expected) {
  if (JSON.stringify(actual) !== JSON.stringify(expected)) {
    throw new Error(`got ${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`)
  }
}

const all = {
  async namedStatementsAreReused(client, marker) {
    for (let n = 0; n < 20; n += 1) {
      const { rows } = await client.query({ name: `by-name-${marker}`, text: 'select $1::text || $2::int as v', values: [marker, n] })
      same(rows, [{ v: `${marker}${n}` }])
    }
  },

  async transactionsRollBack(client, marker) {
    const table = `node_tx_${marker}`
    await client.query(`drop table if exists ${table}; create table ${table} (v text)`)
    await client.query('begin')
    await client.query(`insert into ${table} values ('undone')`)
    await client.query('rollback')
    await client.query('begin')
    await client.query(`insert into ${table} values ('kept')`)
    await client.query('commit')
    same((await client.query(`select v from ${table}`)).rows, [{ v: 'kept' }])
    await client.query(`drop table ${table}`)
  },

  async errorsLeaveTheConnectionUsable(client, marker) {
    for (let n = 0; n < 5; n += 1) {
      const code = await client.query('select 1 / $1::int', [0]).then(() => 'none', (error) => error.code)
      same(code, '22012')
    }
    same((await client.query('select $1::text as v', [marker])).rows, [{ v: marker }])
  },

  async settingsStay(client, marker) {
    await client.query(`set my.marker = '${marker}'; set statement_timeout = 43210`)
    for (let n = 0; n < 10; n += 1) {
      const { rows } = await client.query("select current_setting('my.marker') as m, current_setting('statement_timeout') as t")
      same(rows, [{ m: marker, t: '43210ms' }])
    }
  },

  async listenersHearInOrder(client, marker) {
    const heard = []
    const done = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`heard only ${heard.length}`)), 20000)
      client.on('notification', (note) => {
        heard.push(note.payload)
        if (heard.length === 20) {
          clearTimeout(timer)
          resolve()
        }
      })
    })
    await client.query(`listen "Node ${marker}"`)
    const speaker = new Client({ connectionString: dsn })
    await speaker.connect()
    for (let n = 0; n < 20; n += 1) await speaker.query('select pg_notify($1, $2)', [`Node ${marker}`, String(n)])
    await speaker.end()
    await done
    same(heard, Array.from({ length: 20 }, (_, n) => String(n)))
    await client.query('unlisten *')
  },

  async aPoolServesManyAtOnce(client, marker) {
    const pool = new Pool({ connectionString: dsn, max: 3 })
    const asked = Array.from({ length: 30 }, (_, n) => pool.query('select $1::text as v', [`${marker}-${n}`]))
    const rows = (await Promise.all(asked)).map((reply) => reply.rows[0].v)
    same(rows, Array.from({ length: 30 }, (_, n) => `${marker}-${n}`))
    await pool.end()
  },

  async migrationsRunUnderAnAdvisoryLock(client, marker) {
    const schema = `node_migrations_${marker}`
    await client.query(`drop schema if exists ${schema} cascade`)
    await client.query('select pg_advisory_lock(72707369)')
    await client.query(`create schema ${schema}`)
    await client.query(`set search_path = ${schema}`)
    await client.query('create table "_migrations" (id text primary key, finished timestamptz)')
    for (const step of ['create table a (id int)', 'alter table a add b text', 'create index on a (b)']) {
      await client.query('begin')
      await client.query(step)
      await client.query('insert into "_migrations" values ($1, now())', [step])
      await client.query('commit')
    }
    same((await client.query('select count(*)::int as n from "_migrations"')).rows, [{ n: 3 }])
    same((await client.query('select pg_advisory_unlock(72707369) as was')).rows, [{ was: true }])
    await client.query(`drop schema ${schema} cascade`)
    await client.query('reset search_path')
  },
}

async function one(number) {
  for (const [name, work] of Object.entries(all)) {
    const client = new Client({ connectionString: dsn, application_name: `node ${number}` })
    try {
      await client.connect()
      await work(client, `c${number}`)
      checks += 1
    } catch (error) {
      failures.push(`${name}, client ${number}: ${error.message}`)
    } finally {
      await client.end().catch(() => {})
    }
  }
}

Promise.all(Array.from({ length: count }, (_, number) => one(number))).then(() => {
  for (const failure of failures) console.log('FAILED', failure)
  console.log(`${checks} checks by ${count} clients, ${failures.length} failures`)
  process.exit(failures.length === 0 ? 0 : 1)
})
