-- migrate:up
-- Months that are over can be archived, each as a whole.

CREATE SCHEMA IF NOT EXISTS sidestep_archive;
COMMENT ON SCHEMA sidestep_archive IS 'Months that were archived. They are still parts of the tables in sidestep, by which all goes on to read and change them.';

CREATE FUNCTION sidestep.parts_of_month(p_first bigint) RETURNS TABLE (part regclass, is_archived boolean) LANGUAGE sql STABLE AS $$
    SELECT c.oid::regclass, c.relnamespace = 'sidestep_archive'::regnamespace
      FROM pg_class p JOIN pg_inherits i ON i.inhparent = p.oid JOIN pg_class c ON c.oid = i.inhrelid
     WHERE p.relnamespace = 'sidestep'::regnamespace AND p.relkind = 'p'
       AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''?(-?\d+)')::bigint = p_first
     ORDER BY p.relname
$$;
COMMENT ON FUNCTION sidestep.parts_of_month IS 'The tables of a month, in the order in which they are locked.';

-- As in 0002, but that a month may lie in the archive.
CREATE OR REPLACE FUNCTION sidestep.ensure_months(p_from timestamptz, p_to timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_month timestamp;
    v_table text;
    v_name text;
BEGIN
    FOR v_month IN SELECT generate_series(date_trunc('month', p_from AT TIME ZONE 'UTC'), p_to AT TIME ZONE 'UTC',
                                          interval '1 month') LOOP
        FOREACH v_table IN ARRAY ARRAY['messages', 'message_payloads', 'message_versions', 'reactions', 'decisions'] LOOP
            v_name := v_table || '_' || to_char(v_month, 'YYYYMM');
            -- In this order: a month moves one way.
            CONTINUE WHEN to_regclass('sidestep.' || v_name) IS NOT NULL OR to_regclass('sidestep_archive.' || v_name) IS NOT NULL;
            PERFORM pg_advisory_xact_lock(hashtext('sidestep.ensure_months'));
            EXECUTE format('CREATE TABLE IF NOT EXISTS sidestep.%I PARTITION OF sidestep.%I FOR VALUES FROM (%s) TO (%s)',
                           v_name, v_table, sidestep.id_floor(v_month AT TIME ZONE 'UTC'),
                           sidestep.id_floor((v_month + interval '1 month') AT TIME ZONE 'UTC'));
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION sidestep.is_empty_month(p_first bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_part regclass;
    v_holds boolean;
BEGIN
    FOR v_part IN SELECT p.part FROM sidestep.parts_of_month(p_first) p LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', v_part) INTO v_holds;
        IF v_holds THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;
COMMENT ON FUNCTION sidestep.is_empty_month IS 'Whether nothing is left of a month, of anybody''s.';

CREATE FUNCTION sidestep.months_to_archive(p_before timestamptz) RETURNS TABLE (first_id bigint, end_id bigint, size_bytes bigint) LANGUAGE sql STABLE AS $$
    SELECT m.first_id, m.end_id, (SELECT sum(pg_total_relation_size(p.part))::bigint FROM sidestep.parts_of_month(m.first_id) p)
      FROM sidestep.message_months() m JOIN pg_class c ON c.oid = m.part
     WHERE c.relnamespace = 'sidestep'::regnamespace AND m.end_id <= sidestep.id_floor(p_before) AND NOT sidestep.is_empty_month(m.first_id)
     ORDER BY m.first_id
$$;
COMMENT ON FUNCTION sidestep.months_to_archive IS 'The months that were over by then, hold something and are not archived, oldest first.';

CREATE FUNCTION sidestep.archive_month(p_first bigint) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    v_part regclass;
    v_moved boolean := false;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sidestep.archive'));
    FOR v_part IN SELECT p.part FROM sidestep.parts_of_month(p_first) p WHERE NOT p.is_archived LOOP
        EXECUTE format('ALTER TABLE %s SET SCHEMA sidestep_archive', v_part);
        v_moved := true;
    END LOOP;
    RETURN v_moved;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.archive_month IS 'Moves a month to the archive, in one commit: no row is touched. False: it is there already; null: somebody is reading or writing in it just now.';
