-- migrate:up
-- What the owner of a store asks about the store itself.

CREATE FUNCTION sidestep.slow_statements(p_limit int) RETURNS TABLE (query text, calls bigint, mean_ms float8, total_ms float8, row_count bigint)
LANGUAGE plpgsql AS $$
DECLARE
    v_schema name;
BEGIN
    SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
    IF v_schema IS NULL THEN
        CREATE EXTENSION pg_stat_statements;
        SELECT n.nspname INTO v_schema FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements';
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT s.query, s.calls, s.mean_exec_time, s.total_exec_time, s.rows FROM %I.pg_stat_statements s
          WHERE s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND s.query ILIKE ''%%sidestep.%%''
          ORDER BY s.mean_exec_time DESC LIMIT $1', v_schema) USING p_limit;
END $$;
COMMENT ON FUNCTION sidestep.slow_statements IS 'Our statements, those that take longest first, from pg_stat_statements; creates the extension where it may. Raises where the server has not loaded it.';
