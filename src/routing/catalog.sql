SET LOCAL search_path TO pg_catalog;
SELECT 'function', n.nspname::text, p.proname::text,
       (p.pronargs - p.pronargdefaults - CASE WHEN p.provariadic <> 0 THEN 1 ELSE 0 END)::text,
       CASE WHEN p.provariadic <> 0 THEN '32767' ELSE p.pronargs::text END,
       CASE WHEN p.provolatile = 'v' OR EXISTS (
           SELECT FROM pg_catalog.pg_aggregate a
           JOIN pg_catalog.pg_proc s ON s.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn,
                a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
           WHERE a.aggfnoid = p.oid AND s.provolatile = 'v') THEN 'v' ELSE '' END
       || CASE WHEN l.lanname IN ('sql', 'plpgsql') THEN 'q' WHEN l.lanname IN ('c', 'internal') THEN 'c' ELSE '' END
       || CASE WHEN p.pronargs > 0 AND (t.typtype = 'c' OR t.typname IN ('record', 'anyelement', 'anynonarray', 'anycompatible',
                'anycompatiblenonarray')) THEN 'r' ELSE '' END,
       pg_catalog.pg_get_function_arguments(p.oid) || ' ' || COALESCE(pg_catalog.pg_get_function_result(p.oid), '') || pg_catalog.chr(10)
       || CASE WHEN p.prokind = 'a' OR l.lanname NOT IN ('sql', 'plpgsql') THEN ''
               WHEN p.prosrc = '' THEN pg_catalog.pg_get_functiondef(p.oid) ELSE p.prosrc END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
WHERE n.nspname <> 'pg_catalog' AND p.prokind <> 'p'
UNION ALL
SELECT 'built in', 'pg_catalog', p.proname::text, NULL, NULL, NULL, NULL
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
  AND NOT 'pg_catalog.internal'::pg_catalog.regtype = ANY (p.proargtypes)
  AND NOT 'pg_catalog.cstring'::pg_catalog.regtype = ANY (p.proargtypes)
GROUP BY p.proname HAVING pg_catalog.bool_and(p.provolatile <> 'v')
UNION ALL
SELECT 'relation', n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, NULL,
       CASE WHEN c.relkind = 'v' THEN pg_catalog.pg_get_viewdef(c.oid) END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND (c.relkind IN ('v', 'f') OR (c.relpersistence = 'u' AND c.relkind IN ('r', 'm', 'p', 'S')))
UNION ALL
SELECT 'parent', pn.nspname::text, pc.relname::text, n.nspname::text, c.relname::text, NULL, NULL
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class pc ON pc.oid = i.inhparent JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
WHERE c.relkind = 'f' OR c.relpersistence = 'u' OR c.relhassubclass
UNION ALL
SELECT 'policy', n.nspname::text, c.relname::text, NULL, NULL, NULL, pg_catalog.pg_get_expr(p.polqual, p.polrelid)
FROM pg_catalog.pg_policy p
JOIN pg_catalog.pg_class c ON c.oid = p.polrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relrowsecurity AND p.polqual IS NOT NULL
UNION ALL
SELECT 'trigger', n.nspname::text, c.relname::text, fn.nspname::text, f.proname::text, NULL, NULL
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE NOT t.tgisinternal
UNION ALL
SELECT 'operator', n.nspname::text, o.oprname::text, fn.nspname::text, f.proname::text, NULL, NULL
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc f ON f.oid = o.oprcode JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE n.nspname <> 'pg_catalog'
UNION ALL
SELECT 'cast', n.nspname::text, t.typname::text, fn.nspname::text, f.proname::text, NULL, NULL
FROM pg_catalog.pg_cast c
JOIN pg_catalog.pg_type t ON t.oid = c.casttarget JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_proc f ON f.oid = c.castfunc JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE fn.nspname <> 'pg_catalog'
UNION ALL
SELECT 'input', n.nspname::text, t.typname::text, fn.nspname::text, f.proname::text, NULL, NULL
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_proc f ON f.oid = t.typinput JOIN pg_catalog.pg_namespace fn ON fn.oid = f.pronamespace
WHERE fn.nspname <> 'pg_catalog'
UNION ALL
SELECT 'domain', n.nspname::text, t.typname::text, NULL, NULL, NULL,
       COALESCE(pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(c.oid), ' '), '') || ' ' || pg_catalog.format_type(t.typbasetype, NULL)
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_constraint c ON c.contypid = t.oid
WHERE t.typtype = 'd' AND n.nspname <> 'information_schema'
GROUP BY n.nspname, t.typname, t.typbasetype
