-- The session's state
SET work_mem = '8MB'
SET LOCAL work_mem = '8MB'
SET search_path TO side, public
SET ROLE shelf_reader
SET SESSION AUTHORIZATION shelf_reader
SET TIME ZONE 'UTC'
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
SELECT 1; SET work_mem = '8MB'
RESET work_mem
RESET ALL
DISCARD PLANS
DISCARD ALL
SELECT set_config('a.b', 'c', false)
SELECT pg_catalog.set_config('a.b', 'c', true)
SELECT setseed(0.5)
PREPARE p AS SELECT 1
PREPARE p AS DELETE FROM note; DEALLOCATE p
PREPARE p(int) AS SELECT $1; EXECUTE p(1)
PREPARE p AS SELECT 1; EXPLAIN EXECUTE p
DEALLOCATE ALL
BEGIN; DECLARE c CURSOR FOR SELECT * FROM book; FETCH c; MOVE c; CLOSE c; COMMIT
CLOSE ALL
UNLISTEN *
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1)
SELECT pg_advisory_xact_lock(1)
SELECT pg_advisory_unlock(1)
SELECT pg_advisory_unlock_all()
SELECT 1 FROM book WHERE pg_try_advisory_xact_lock_shared(id)
SELECT * FROM pg_cursors
SELECT * FROM pg_prepared_statements
SELECT pg_my_temp_schema()
LOAD 'plpgsql'
-- Transactions
BEGIN
BEGIN READ ONLY
START TRANSACTION ISOLATION LEVEL REPEATABLE READ
COMMIT
ROLLBACK
BEGIN; SAVEPOINT a; ROLLBACK TO a; RELEASE a; COMMIT
BEGIN; SET TRANSACTION READ ONLY; COMMIT
-- The node that answers
SELECT * FROM pg_stat_activity
SELECT * FROM pg_stat_user_tables
SELECT * FROM pg_statio_user_tables
SELECT * FROM pg_catalog.pg_stat_replication
SELECT * FROM pg_locks
SELECT * FROM pg_replication_slots
SELECT * FROM pg_prepared_xacts
SELECT * FROM pg_hba_file_rules
SELECT pg_is_in_recovery()
SELECT pg_last_wal_replay_lsn()
SELECT inet_server_port()
SELECT pg_backend_pid()
SELECT pg_postmaster_start_time()
SELECT pg_stat_get_numscans(0)
SELECT pg_blocking_pids(0)
SELECT pg_export_snapshot()
SHOW transaction_read_only
SHOW in_hot_standby
SELECT current_setting('transaction_read_only')
-- What acts on a server
SELECT pg_reload_conf()
SELECT pg_cancel_backend(0)
SELECT pg_terminate_backend(0)
SELECT pg_stat_reset()
SELECT pg_rotate_logfile() IS NULL
SELECT pg_create_physical_replication_slot('shelf_slot'), pg_drop_replication_slot('shelf_slot')
CHECKPOINT
BEGIN; LOCK TABLE book IN ACCESS SHARE MODE; COMMIT
BEGIN; LOCK TABLE book IN ROW EXCLUSIVE MODE; COMMIT
-- Nothing is won by knowing better
SELECT 1 FOR UPDATE
DO $$ BEGIN NULL; END $$
SELECT * FROM generate_series(1, 2) g FOR UPDATE
COPY (SELECT 1) TO '/dev/null'
