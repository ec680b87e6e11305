//! What texts do that does not look like it.

use super::{ANYTHING, CUSTOM, MEMORY, Way, way};

pub const TEXTS: &[Way] = &[
    way(
        "",
        &["update pg_settings set setting = 7168 where name = 'work_mem'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create view mine as select * from pg_settings",
        &["update mine set setting = 7168 where name = 'work_mem'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create view mine as select * from pg_settings; create view ours as select * from mine",
        &["update ours set setting = 7168 where name = 'work_mem'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create function f() returns void language sql as $$ update pg_settings set setting = 7168 where name = 'work_mem' $$",
        &["select f()"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create view mine as select * from pg_settings; create function f() returns void language sql as $$ update mine set setting = 7168 where name = 'work_mem' $$",
        &["select f()"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create table t (a int); create rule r as on insert to t do also update pg_settings set setting = 7168 where name = 'work_mem'",
        &["insert into t values (1)"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    // Texts.
    way(
        "",
        &["select ';--'; set work_mem = '7MB'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "",
        &["select ';/*'; set work_mem = '7MB'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "",
        &["/* ; -- */ set work_mem = '7MB'"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "",
        &["set seed = 0.5"],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "",
        &["select set_config('seed', '0.5', false)"],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "",
        &[
            "create temp table iso_t as select from (select setseed(0.5)) x",
            "discard temp",
        ],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "",
        &["select '; create ' || setseed(0.5)::text"],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "",
        &["do $$ begin perform setseed(0.5); end $$"],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "create function f() returns void language plpgsql as $$ begin perform setseed(0.5); end $$",
        &["select f()"],
        "select random() = 0.9851677175347999",
        ["f", ANYTHING],
    ),
    way(
        "",
        &[
            "select query_to_xml('select set_' || 'config(''work_mem'', ''7MB'', false)', true, true, '')",
        ],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "",
        &[
            "select * from ts_stat('select to_tsvector(set_' || 'config(''work_mem'', ''7MB'', false))')",
        ],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create view v as select set_config('work_mem', '7MB', false)",
        &["select table_to_xml('v', true, true, '')"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "create view odd_view as select set_config('work_mem', '7MB', false)",
        &["select schema_to_xml('scene', true, true, '')"],
        MEMORY,
        ["4MB", "7MB"],
    ),
    way(
        "",
        &["do $$ begin execute 'set ' || 'unseen.' || 'mine = 7'; end $$"],
        CUSTOM,
        ["-", ANYTHING],
    ),
    way(
        "",
        &["do $$ begin execute 's' || 'et ' || 'unseen.' || 'mine = 7'; end $$"],
        CUSTOM,
        ["-", ANYTHING],
    ),
    way(
        "create function f(n text) returns void language plpgsql as $$ begin execute format('set %s = 7', n); end $$",
        &["select f('unseen.mine')"],
        CUSTOM,
        ["-", "7"],
    ),
    way(
        "create function f(n text) returns void language plpgsql as $$ begin perform set_config(n, '7', false); end $$",
        &["select f('unseen.mine')"],
        CUSTOM,
        ["-", "7"],
    ),
    way(
        "",
        &["explain analyze create table t as select 1 as a"],
        "select count(*) from pg_class where relnamespace = pg_my_temp_schema()",
        ["0", ANYTHING],
    ),
    way(
        "",
        &[
            "set search_path = pg_temp, scene",
            "explain analyze create table t as select 1 as a",
        ],
        "select count(*) from pg_class where relnamespace = pg_my_temp_schema()",
        ["0", "1"],
    ),
    way(
        "create function f() returns void language plpgsql as $$ begin create table t (a int); end $$",
        &["set search_path = pg_temp, scene", "select f()"],
        "select count(*) from pg_class where relnamespace = pg_my_temp_schema()",
        ["0", "1"],
    ),
];
