SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL jit TO off;
WITH RECURSIVE built_in AS (
 SELECT p.oid, p.prosrc, CASE
   WHEN p.proname IN ('currval', 'lastval') THEN 'q'
   WHEN p.proname IN ('setseed', 'pg_backup_start', 'pg_start_backup') OR p.proname ~ 'replication' THEN 'l'
   WHEN p.proname !~ 'advisory' THEN 'r' ELSE '' END AS does
 FROM pg_proc p WHERE p.pronamespace = 11 AND p.proname = ANY ('{set_config,setseed,currval,lastval,
  pg_advisory_lock,pg_advisory_lock_shared,pg_try_advisory_lock,pg_try_advisory_lock_shared,
  pg_advisory_unlock,pg_advisory_unlock_shared,pg_advisory_unlock_all,pg_backup_start,pg_start_backup,
  pg_replication_origin_session_setup,pg_replication_origin_session_reset,pg_create_physical_replication_slot,
  pg_create_logical_replication_slot,pg_copy_physical_replication_slot,pg_copy_logical_replication_slot,
  query_to_xml,query_to_xmlschema,query_to_xml_and_xmlschema,cursor_to_xml,cursor_to_xmlschema,table_to_xml,
  table_to_xmlschema,table_to_xml_and_xmlschema,schema_to_xml,schema_to_xmlschema,schema_to_xml_and_xmlschema,
  database_to_xml,database_to_xmlschema,database_to_xml_and_xmlschema,ts_stat,ts_rewrite}'::name[])
), named AS (
 SELECT does, ':(?:func|opfunc|aggfno|winfno)(?:id)? (?:' || string_agg(oid::text, '|') || ')\M' AS pattern FROM built_in GROUP BY ROLLUP (does)
), code AS (
 SELECT p.oid, p.proname::text AS name, p.prorettype AS gives, lower(p.prosrc) AS source,
  regexp_replace(regexp_replace(lower(p.prosrc), '\mupdate\M[^;]*?\mset\M', 'update', 'g'), '\malter\M[^;]*?\mset\M', 'alter', 'g') AS stripped,
  concat(p.proargdefaults::text, CASE WHEN p.prosrc = '' THEN to_jsonb(p) ->> 'prosqlbody' END) AS tree
 FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE l.lanname <> ALL ('{internal,c}') AND p.prokind <> 'a' AND p.pronamespace <> 11
  AND p.pronamespace <> ALL (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'information_schema')
), trees AS (
 SELECT 1255::oid AS class, c.oid, c.tree FROM code c
 UNION ALL SELECT 1259, r.ev_class, concat(r.ev_action::text, r.ev_qual::text) FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
  WHERE v.relnamespace <> 11 AND v.relnamespace <> ALL (SELECT n.oid FROM pg_namespace n WHERE n.nspname = 'information_schema')
 UNION ALL SELECT 2604, d.oid, d.adbin::text FROM pg_attrdef d
 UNION ALL SELECT CASE WHEN c.contypid = 0 THEN 2606 ELSE 1247 END, c.oid, c.conbin::text FROM pg_constraint c WHERE c.conbin IS NOT NULL
 UNION ALL SELECT 3256, p.oid, concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
 UNION ALL SELECT 2620, t.oid, t.tgqual::text FROM pg_trigger t WHERE t.tgqual IS NOT NULL
), hit AS MATERIALIZED (
 SELECT t.* FROM trees t JOIN named n ON n.does IS NULL AND t.tree ~ n.pattern
), found AS (
 SELECT h.class, h.oid, n.does FROM hit h JOIN named n ON n.does IS NOT NULL AND h.tree ~ n.pattern
), suspect AS (
 SELECT 1255::oid AS class, c.oid, c.name, c.gives, concat(
   CASE WHEN c.source ~ '\m(load|setseed|dblink_connect\w*|pg_replication_origin\w*|pg_backup_start|pg_start_backup|pg_(create|copy)_\w+_replication_slot|seed)\M' THEN 'l' END,
   CASE WHEN c.source ~ '\m(curr|last)val\M' THEN 'q' END,
   CASE WHEN c.source ~ '\mset_config\s*\(\s*[^''\s]' THEN 'h' END,
   CASE WHEN c.stripped ~ '\mexecute\M[^;]*\mset\M' THEN 'h' END,
   CASE WHEN c.source ~ '\mexecute\M(?!\s*(pg_catalog\s*\.\s*)?(format\s*\(\s*)?'')|_to_xml|\mts_(stat|rewrite)\M' THEN 'r' END) AS does
 FROM code c
 WHERE c.stripped ~ '\m(set|reset|set_config|discard|listen|unlisten|prepare|deallocate|create|temp|temporary|pg_temp\w*|hold|load|setseed|execute|lastval|currval|dblink_connect\w*|pg_(try_)?advisory_(lock|unlock)\w*|pg_replication_origin\w*|pg_(create|copy)_\w+_replication_slot|pg_backup_start|pg_start_backup|\w+_to_xml\w*|ts_stat|ts_rewrite|set_limit)\M'
  OR (c.source ~ '\mpg_settings\M' AND c.source ~ '\mupdate\M')
 UNION SELECT 1255, p.oid, p.proname::text, p.prorettype, b.does FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang JOIN built_in b ON b.prosrc = p.prosrc
  WHERE l.lanname = 'internal' AND p.pronamespace <> 11
 UNION SELECT 1255, a.aggfnoid, p.proname::text, p.prorettype, b.does FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid
  JOIN built_in b ON b.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
 UNION SELECT f.class, f.oid, c.name, c.gives, f.does FROM found f JOIN code c ON c.oid = f.oid WHERE f.class = 1255
 UNION SELECT f.class, f.oid, c.relname::text, 0, f.does FROM found f JOIN pg_class c ON c.oid = f.oid WHERE f.class = 1259
 UNION SELECT 1259, 'pg_settings'::regclass, 'pg_settings', 0, ''
 UNION
 SELECT n.class, n.oid, n.name, n.gives, s.does FROM suspect s CROSS JOIN LATERAL (
  SELECT 1255::oid AS class, c.oid, c.name, c.gives FROM code c
   WHERE (s.name <> 'pg_settings' AND strpos(c.source, lower(s.name)) > 0)
    OR (s.gives = 2279 AND c.source ~ '\m(insert|update|delete|merge|truncate|copy)\M')
    OR (s.gives = 3838 AND c.source ~ '\m(create|alter|drop|comment|grant|revoke|refresh|security|reindex|import|into)\M')
  UNION ALL SELECT 1255, p.oid, p.proname::text, p.prorettype FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
   WHERE d.classid = 1255 AND d.refclassid = s.class AND d.refobjid = s.oid AND p.pronamespace <> 11
  UNION ALL SELECT 1259, v.oid, v.relname::text, 0 FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
   WHERE d.classid = 2618 AND d.refclassid = s.class AND d.refobjid = s.oid AND r.ev_class <> s.oid AND v.relnamespace <> 11
 ) n
), dependent AS (
 SELECT d.classid AS class, d.objid AS oid, s.does FROM pg_depend d JOIN suspect s ON d.refclassid = s.class AND d.refobjid = s.oid
  WHERE (s.class = 1255 AND d.classid <> ALL ('{1255,2618}') AND (d.classid <> 2606 OR EXISTS (SELECT FROM pg_constraint c WHERE c.oid = d.objid AND c.contypid = 0)))
   OR (s.class = 1259 AND d.classid = 3256)
 UNION SELECT 1247, d.objid, s.does FROM pg_depend d JOIN suspect s ON d.refclassid = s.class AND d.refobjid = s.oid JOIN pg_constraint c ON c.oid = d.objid
  WHERE s.class = 1255 AND d.classid = 2606 AND c.contypid <> 0
 UNION SELECT 2620, t.oid, s.does FROM pg_trigger t JOIN suspect s ON s.class = 1255 AND t.tgfoid = s.oid
 UNION SELECT f.class, f.oid, f.does FROM found f WHERE f.class <> ALL ('{1255,1259}')
 UNION SELECT 2617, o.oid, b.does FROM pg_operator o JOIN built_in b ON o.oprcode = b.oid WHERE o.oprnamespace <> 11
)
SELECT DISTINCT 'f', s.name, s.does FROM suspect s WHERE s.name <> 'pg_settings'
UNION ALL SELECT DISTINCT CASE WHEN d.class = 3466 THEN 'e' WHEN d.class IN (2604, 2606, 2620) THEN 'w' ELSE 'x' END, '', d.does FROM dependent d
UNION ALL SELECT DISTINCT 'k', m.name, '' FROM suspect s JOIN code c ON s.class = 1255 AND c.oid = s.oid
 CROSS JOIN LATERAL (SELECT (regexp_matches(c.source, '[^\w.]([a-z_]\w*\.[a-z_][\w.]*)', 'g'))[1] AS name) m WHERE c.source ~ '\mset';
