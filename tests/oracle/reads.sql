-- Shapes of a query
SELECT 1
select 1;
;SELECT 1
((SELECT 1))
(SELECT 1) UNION ALL (SELECT 2)
((SELECT 1) EXCEPT (SELECT 2)) ORDER BY 1
(VALUES (1), (2))
VALUES (1, 'a'), (2, 'b')
TABLE book
TABLE ONLY book
SELECT
SELECT FROM book
SELECT ALL title FROM book
SELECT DISTINCT ON (price) id FROM book ORDER BY price, id
SELECT * FROM book WHERE id = 1 OR id IN (2, 3) AND NOT (id = 4)
SELECT * FROM book ORDER BY price DESC NULLS LAST LIMIT 3 OFFSET 1
SELECT * FROM book ORDER BY price USING > FETCH FIRST 2 ROWS WITH TIES
SELECT title, count(*) FROM book GROUP BY (title) HAVING count(*) > 0
SELECT title, sum(price) FROM book GROUP BY ROLLUP (title)
SELECT title, id, sum(price) FROM book GROUP BY CUBE (title, id), GROUPING SETS ((title), ())
SELECT GROUPING(title), title FROM book GROUP BY ROLLUP(title), ROLLUP(price)
SELECT * FROM book a JOIN book b USING (id) LEFT JOIN book c ON (c.id = a.id) CROSS JOIN (SELECT 1) d
SELECT * FROM book NATURAL JOIN (SELECT 1 AS id) x
SELECT * FROM book a, LATERAL (SELECT * FROM book b WHERE b.id = a.id LIMIT 1) l(id)
SELECT * FROM (VALUES (1, 2)) AS t(a, b)
SELECT * FROM (VALUES (1, 2)) t(a, b)
SELECT x.a FROM book x(a)
SELECT * FROM public.book p(a, b)
SELECT * FROM generate_series(1, 3) WITH ORDINALITY AS g(i, n)
SELECT * FROM generate_series(1, 3) WITH ORDINALITY g(i, n)
SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS r(a, b)
SELECT * FROM json_to_recordset('[{"a":1}]') AS j(a int, b varchar(3))
SELECT * FROM book TABLESAMPLE SYSTEM (50) REPEATABLE (1)
SELECT * FROM book TABLESAMPLE BERNOULLI (50)
SELECT rank() OVER (PARTITION BY title ORDER BY price), sum(price) OVER w FROM book WINDOW w AS (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES)
SELECT count(*) FILTER (WHERE id > 1) FROM book
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY price) FROM book
SELECT string_agg(title, ',' ORDER BY id, price) FROM book
SELECT array_agg(DISTINCT title) FROM book
SELECT (SELECT max(id) FROM book), EXISTS (SELECT 1 FROM book), 1 = ANY (SELECT id FROM book), 1 < ALL (ARRAY[2, 3])
SELECT CASE WHEN id > 1 THEN 'a' ELSE 'b' END FROM book
SELECT (book).title, book.*, (ROW(1, 2)).f1 FROM book
SELECT tags[1], tags[1:2], ARRAY(SELECT id FROM book), ARRAY[[1], [2]] FROM book
SELECT * FROM book FOR READ ONLY
SELECT 1 WHERE false UNION SELECT 2 INTERSECT SELECT 2
-- WITH
WITH x AS (SELECT 1) SELECT * FROM x
WITH RECURSIVE x(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT sum(n) FROM x
WITH a(x) AS (SELECT 1), b(y, z) AS MATERIALIZED (SELECT 1, 2), c AS NOT MATERIALIZED (SELECT 3) SELECT * FROM a, b, c
WITH x AS (WITH y AS (SELECT 1) SELECT * FROM y) SELECT * FROM x
WITH updated AS (SELECT 1), deletes AS (SELECT 2) SELECT * FROM updated, deletes
(WITH x AS (SELECT 1) TABLE x)
-- Comments and strings that only look like writes
/* DELETE FROM book */ SELECT 1
SELECT 1 -- ; DELETE FROM book
/* /* INSERT */ UPDATE book SET id = 1 */ SELECT 1
SELECT/**/1
SELECT 'DELETE FROM book', $$nextval('counter')$$, $x$ FOR UPDATE $x$
SELECT E'it\'s; DROP TABLE book; --'
SELECT 'it''s; DROP TABLE book; --'
SELECT U&'d\0061t\+000061', N'x', B'101', X'1F'
SELECT U&'d!0061ta' UESCAPE '!'
SELECT 1 AS "into", 2 AS update, 3 AS insert, 4 AS "delete"
SELECT "insert", "for" FROM "update"
SELECT u."insert" FROM "update" AS u
SELECT ';'; SELECT 1
SELECT 1; SELECT 2; TABLE book
SELECT /* pooler: replica */ 1
-- Operators and types
SELECT 1 + 2 - 3 * 4 / 5 % 6, 6 ^ 2, -1, +1, @ -5, |/ 4, 1 << 2, 5 & 3 | 1 # 2, ~1
SELECT 1 <> 2, 1 != 2, 1 <= 2, NOT true AND false OR true
SELECT 'a' || 'b', 'abc' LIKE 'a%', 'abc' ~~ 'a%', 'abc' ILIKE ('A%'), 'abc' SIMILAR TO 'a.*', 'abc' ~ 'b', 'abc' !~* 'X', 'a' ^@ 'a'
SELECT doc -> 'k', doc ->> 'k', doc #> '{l,0}', doc @> '{"k":1}', doc ? 'k', doc ?| ARRAY['k'], doc - 'k', doc @? '$.k', doc @@ '$.k == 1' FROM book
SELECT span @> 1, span && int4range(1, 2), span -|- int4range(9, 10) FROM book
SELECT (now(), now()) OVERLAPS (now(), now())
SELECT 1 OPERATOR(pg_catalog.+) 2
SELECT 1 IS DISTINCT FROM 2, NULL IS NULL, true IS NOT TRUE, 1 BETWEEN SYMMETRIC 3 AND 0, ROW(1, 2) = ROW(1, 3)
SELECT '1'::int, CAST('1' AS numeric(10, 2)), 'x'::varchar(3), '{1,2}'::int[], '2024-01-01'::date, interval '1' day, date '2024-01-01', timestamp with time zone '2024-01-01 00:00+00', double precision '1.5'
SELECT 'red'::colour, CAST('blue' AS public.colour), 5::small, CAST(7 AS small)
SELECT now() AT TIME ZONE 'UTC', now() AT TIME ZONE ('UTC')
SELECT 'a' COLLATE "C" < 'b' COLLATE "C", collation for ('a')
SELECT 'book'::regclass, 'now'::regproc
SELECT 5 =~= 6, 5 OPERATOR(public.=~=) 6
-- Functions of PostgreSQL's own
SELECT now(), current_timestamp, current_date, localtime(0), statement_timestamp(), clock_timestamp(), timeofday()
SELECT random(), gen_random_uuid()
SELECT pg_sleep(0), pg_sleep_for('0 s')
SELECT current_user, session_user, current_database(), current_schema(), current_schemas(true), version()
SELECT lower('A'), upper('a'), length('abc'), substring('abc' FROM 1 FOR 2), overlay('abc' PLACING 'x' FROM 1), position('a' IN 'abc'), trim(BOTH 'x' FROM 'xax'), btrim('x')
SELECT left('abc', 1), right('abc', 1), repeat('a', 3), format('%s', 1), to_char(now(), 'YYYY'), md5('a'), encode('a', 'hex'), regexp_replace('a', 'b', 'c', 'g')
SELECT coalesce(NULL, 1), nullif(1, 2), greatest(1, 2), least(1, 2), extract(year FROM now()), date_trunc('day', now()), age(now(), now())
SELECT abs(-1), round(1.5), ceil(1.1), power(2, 3), mod(5, 3), div(5, 3), width_bucket(1.0, 0, 10, 5)
SELECT jsonb_build_object('a', 1), to_jsonb(1), row_to_json(b), jsonb_agg(b), json_object_agg(id, title) FROM book b GROUP BY b.*, b.id
SELECT * FROM jsonb_each('{"a":1}'), jsonb_array_elements('[1]'), jsonb_path_query('{"a":1}', '$.a')
SELECT * FROM unnest(ARRAY[1, 2], ARRAY[3, 4]) AS u(a, b)
SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS b text PATH 'b')
SELECT xmlelement(name a, xmlattributes(1 AS b), 'c'), xmlforest(1 AS x), xmlconcat('<a/>', '<b/>')
SELECT to_tsvector('english', title) @@ plainto_tsquery('title') FROM book
SELECT ts_headline('english', title, to_tsquery('title')) FROM book
SELECT pg_relation_size('book'), pg_total_relation_size('book'), pg_size_pretty(1::bigint), pg_database_size(current_database())
SELECT pg_get_viewdef('v_books'::regclass), pg_get_indexdef(indexrelid), pg_get_constraintdef(0) FROM pg_index LIMIT 1
SELECT format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute LIMIT 1
SELECT has_table_privilege('book', 'UPDATE'), has_schema_privilege('public', 'CREATE'), pg_has_role('postgres', 'USAGE')
SELECT current_setting('work_mem'), current_setting('no.such', true)
SELECT to_regclass('book'), to_regtype('colour'), pg_typeof(1), pg_column_size(1)
SELECT txid_current_snapshot(), pg_current_snapshot(), txid_current_if_assigned()
SELECT pg_catalog.lower('A'), pg_catalog . upper ( 'a' ), "pg_catalog"."length"('abc'), "lower"('A'), LOWER('A')
SELECT query_to_xml('SELECT 1', true, false, '')
SELECT table_to_xml('book', true, false, '')
SELECT * FROM ts_stat('SELECT to_tsvector(title) FROM book')
SELECT generate_series(1, 3), generate_subscripts(tags, 1) FROM book
SELECT last_value FROM counter
SELECT row_number() OVER (), lag(id) OVER (ORDER BY id), first_value(id) OVER (ORDER BY id) FROM book
SELECT corr(id, id), stddev(id), bool_and(true), every(true), bit_or(id), mode() WITHIN GROUP (ORDER BY id), regr_slope(id, id) FROM book
-- Catalogs
SELECT * FROM pg_class, pg_namespace WHERE relnamespace = pg_namespace.oid LIMIT 1
SELECT * FROM information_schema.tables
SELECT * FROM information_schema.columns WHERE table_name = 'book'
SELECT * FROM pg_settings
SELECT * FROM pg_sequences
SELECT * FROM pg_stats LIMIT 1
SELECT * FROM pg_indexes
SELECT * FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid LIMIT 1
-- The database's own
SELECT price_of(1), public.price_of(2), "price_of"(3)
SELECT add_tax(1), add_tax(1, 0.5), add_tax(1, rate => 0.5)
SELECT longest('a', 'b', 'c'), longest(VARIADIC ARRAY['a'])
SELECT shout(b), b.shout, (b).shout FROM book b
SELECT modern(1), side.plain(1)
SELECT run_sql('SELECT count(*) FROM book')
SELECT * FROM ranked(2) r(a, b), ranked(1) AS s
SELECT quiet_sum(id), pg_catalog.sum(id) FROM book
SELECT * FROM v_books
SELECT * FROM public.v_books AS v JOIN m_books ON true
SELECT * FROM pages1
SELECT * FROM v_pages
-- EXPLAIN
EXPLAIN SELECT * FROM book
EXPLAIN UPDATE book SET price = 1
EXPLAIN INSERT INTO note(body) VALUES ('x')
EXPLAIN DELETE FROM book
EXPLAIN SELECT nextval('counter')
EXPLAIN SELECT scribble('x')
EXPLAIN VERBOSE SELECT * FROM book FOR UPDATE
EXPLAIN (COSTS off, VERBOSE) DELETE FROM book
EXPLAIN (ANALYZE off) DELETE FROM book
EXPLAIN (ANALYZE false, FORMAT json) DELETE FROM book
EXPLAIN (ANALYZE 'off') DELETE FROM book
EXPLAIN ANALYZE SELECT * FROM book
EXPLAIN (ANALYZE, BUFFERS) SELECT count(*) FROM book
EXPLAIN ANALYZE VERBOSE (SELECT 1)
EXPLAIN CREATE TABLE x AS SELECT 1
-- SHOW
SHOW work_mem
SHOW ALL
SHOW TIME ZONE
SHOW search_path
SHOW TRANSACTION ISOLATION LEVEL
SHOW server_version
