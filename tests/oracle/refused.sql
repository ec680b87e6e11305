-- DML and what hides in WITH
INSERT INTO note(body) VALUES ('x')
insert into note(body) select title from book
INSERT INTO book(id, title) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title = excluded.title
UPDATE book SET price = price WHERE false
update only book as b set price = 1 from note n where false
DELETE FROM note WHERE false
DELETE FROM book USING note WHERE false RETURNING *
MERGE INTO book b USING (SELECT 1 AS id) s ON b.id = s.id WHEN MATCHED THEN UPDATE SET price = 1
TRUNCATE note
TRUNCATE TABLE note, book RESTART IDENTITY CASCADE
WITH x AS (INSERT INTO note(body) VALUES ('x') RETURNING 1) SELECT * FROM x
WITH x AS (UPDATE book SET price = 1 WHERE false RETURNING 1) SELECT 1
WITH x AS (DELETE FROM note WHERE false RETURNING 1) SELECT 1
WITH x AS MATERIALIZED (DELETE FROM note WHERE false RETURNING 1) TABLE x
WITH a AS (SELECT 1), b(n) AS (DELETE FROM note WHERE false RETURNING 1) SELECT 1 FROM a
WITH x AS (SELECT 1 AS i) DELETE FROM note USING x WHERE false
WITH x AS (SELECT 1 AS i) INSERT INTO note(body) SELECT i::text FROM x
WITH x AS (SELECT 1 AS i) UPDATE book SET price = 1 FROM x WHERE false
WITH x AS (WITH y AS (SELECT 1) DELETE FROM note WHERE false RETURNING 1) SELECT 1
WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 3) SEARCH DEPTH FIRST BY n SET o DELETE FROM note USING x WHERE false
-- Disguises
/* SELECT 1 */ DELETE FROM note WHERE false
-- a heading, for the test's eyes only
SELECT 1; DELETE FROM note WHERE false
; ; DELETE FROM note WHERE false
SELECT 'x'; INSERT INTO note(body) VALUES (';')
SELECT 1 /* /* */ */; TRUNCATE note
-- INTO and locks
SELECT 1 AS a INTO new_table
SELECT id INTO TABLE new_table FROM book
SELECT * INTO UNLOGGED new_table FROM book
SELECT * FROM book FOR UPDATE
SELECT * FROM book WHERE id = 1 FOR NO KEY UPDATE
SELECT * FROM book FOR SHARE OF book NOWAIT
SELECT * FROM book ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
SELECT * FROM book FOR KEY SHARE
SELECT * FROM (SELECT * FROM book FOR UPDATE) x
WITH x AS (SELECT * FROM book FOR SHARE) SELECT * FROM x
(SELECT * FROM book LIMIT 1 FOR UPDATE)
-- Functions of PostgreSQL's own that write
SELECT nextval('counter')
SELECT pg_catalog.nextval('counter')
SELECT pg_catalog . "nextval" ('counter')
SELECT "nextval"('counter')
SELECT NextVal('counter')
SELECT U&"next\0076al"('counter')
SELECT U&"nextv!0061l" UESCAPE '!' ('counter')
SELECT 1 FROM book WHERE nextval('counter') > 0
SELECT * FROM nextval('counter') n(x)
SELECT CASE WHEN true THEN nextval('counter') END
SELECT * FROM book ORDER BY nextval('counter')
SELECT id FROM book LIMIT nextval('counter')
SELECT DISTINCT ON (nextval('counter')) id FROM book
SELECT count(*) FROM book HAVING nextval('counter') > 0
SELECT count(*) FILTER (WHERE nextval('counter') > 0) FROM book
SELECT ARRAY[nextval('counter')], ROW(nextval('counter'))
SELECT coalesce(NULL, nextval('counter'))
SELECT 1 + nextval('counter'), -nextval('counter')
SELECT 1 OPERATOR(pg_catalog.+) nextval('counter')
VALUES (nextval('counter'))
SELECT * FROM (VALUES (nextval('counter'))) v(x)
SELECT * FROM ROWS FROM (generate_series(1, 2), nextval('counter'))
SELECT setval('counter', 5)
SELECT pg_notify('c', 'x')
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT pg_current_wal_lsn()
SELECT pg_current_wal_insert_lsn()
SELECT pg_walfile_name(pg_current_wal_lsn())
SELECT lo_creat(-1)
SELECT lo_create(0)
SELECT lo_from_bytea(0, 'x')
SELECT pg_create_restore_point('x')
SELECT pg_switch_wal()
SELECT pg_logical_emit_message(true, 'a', 'b')
SELECT gin_clean_pending_list('book_pkey'::regclass) WHERE false OR pg_current_wal_lsn() IS NULL
SELECT query_to_xml('SELECT nextval(''counter'')', true, false, '')
SELECT * FROM query_to_xml('SELECT scribble(title) FROM book', true, false, '')
-- The database's own that write
SELECT scribble('x')
SELECT SCRIBBLE('x')
SELECT public.scribble('x')
SELECT public . "scribble" ( 'x' )
SELECT U&"scr\0069bble"('x')
SELECT (SELECT scribble('x'))
SELECT * FROM scribble('x')
SELECT * FROM book JOIN scribble('x') s ON true
SELECT * FROM book, LATERAL scribble(title) AS s(x)
SELECT title FROM book WHERE scribble(title) = 1
SELECT side.next_number()
SELECT stable_liar('x')
SELECT fixed_liar('x')
SELECT liars_friend('x')
SELECT loud_sum(id) FROM book
SELECT b.stamp FROM book b
SELECT (b).stamp FROM book b
SELECT stamp(b) FROM book b
SELECT takes_watched(5)
SELECT run_sql('SELECT scribble(''x'')')
SELECT run_sql($$ /* x */ select nextval('counter') $$)
SELECT numbered('x')
SELECT * FROM pages
SELECT 1 ### 2
SELECT 1 OPERATOR(public.###) 2
SELECT 1::boxed
SELECT CAST(id AS boxed) FROM book
SELECT 5::watched_int
SELECT CAST(5 AS watched_int)
SELECT * FROM v_scribble
SELECT count(*) FROM v_over
TABLE v_scribble
SELECT * FROM public.v_next
SELECT * FROM v_locked
SELECT 1 FROM book WHERE EXISTS (SELECT 1 FROM v_over)
SELECT table_to_xml('v_scribble', true, false, '')
SELECT * FROM ts_stat('SELECT to_tsvector(scribble(title)::text) FROM book')
SELECT * FROM unl
SELECT * FROM book JOIN public.unl ON true
EXPLAIN SELECT fixed_liar('x')
-- EXPLAIN ANALYZE
EXPLAIN ANALYZE DELETE FROM note WHERE false
EXPLAIN (ANALYZE) UPDATE book SET price = 1
EXPLAIN (BUFFERS, ANALYZE on) INSERT INTO note(body) VALUES ('x')
EXPLAIN (ANALYZE true, VERBOSE off) DELETE FROM note
EXPLAIN (ANALYZE 1) DELETE FROM note
EXPLAIN ANALYSE SELECT nextval('counter')
EXPLAIN ANALYZE VERBOSE WITH x AS (DELETE FROM note RETURNING 1) SELECT 1
EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1
EXPLAIN ANALYZE SELECT scribble('x')
-- DDL and maintenance
CREATE TABLE x(a int)
CREATE TEMP TABLE x(a int)
CREATE TABLE x AS SELECT 1
CREATE INDEX ON book(title)
CREATE VIEW x AS SELECT 1
CREATE MATERIALIZED VIEW x AS SELECT 1
CREATE SEQUENCE x
CREATE SCHEMA x
CREATE ROLE x
CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION x() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END
CREATE TYPE x AS ENUM ('a')
CREATE DOMAIN x AS int
CREATE RULE x AS ON INSERT TO note DO ALSO (SELECT 1; SELECT 2)
CREATE EXTENSION IF NOT EXISTS plpgsql; CREATE TABLE y(a int)
ALTER TABLE book ADD COLUMN x int
ALTER ROLE shelf_reader SET work_mem = '1MB'
ALTER SEQUENCE counter RESTART
DROP TABLE note
DROP VIEW IF EXISTS v_books
COMMENT ON TABLE book IS 'x'
GRANT SELECT ON book TO shelf_reader
REVOKE SELECT ON book FROM shelf_reader
REASSIGN OWNED BY shelf_reader TO postgres
ANALYZE book
!VACUUM book
REINDEX TABLE book
CLUSTER book USING book_pkey
REFRESH MATERIALIZED VIEW m_books
LOCK TABLE book
LOCK TABLE book IN SHARE MODE
NOTIFY c
NOTIFY c, 'x'
LISTEN c
COPY book TO '/dev/null'; DELETE FROM note WHERE false
DO $$ BEGIN DELETE FROM note WHERE false; END $$
CALL tidy()
-- Transactions that a standby refuses
BEGIN READ WRITE
START TRANSACTION READ WRITE
BEGIN ISOLATION LEVEL SERIALIZABLE
BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE
