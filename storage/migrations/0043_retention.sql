-- migrate:up
-- Each tenant keeps its messages as long as it wants, and a month in which nobody has any left is dropped.

ALTER TABLE sidestep.tenants ADD COLUMN retention interval CHECK (retention >= interval '0');
COMMENT ON COLUMN sidestep.tenants.retention IS 'How long its messages are kept. Zero: for ever; null: as store.retention of the configuration says.';

CREATE FUNCTION sidestep.drop_empty_months(p_now timestamptz) RETURNS int LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    v_first bigint;
    v_part regclass;
    v_dropped int := 0;
BEGIN
    FOR v_first IN
        SELECT m.first_id FROM sidestep.message_months() m
         WHERE m.end_id <= sidestep.id_floor(p_now - interval '1 day') AND sidestep.is_empty_month(m.first_id)
    LOOP
        -- Dropping locks the whole of each table. All of them first, so that nobody writes in between; and nobody waits long.
        LOCK TABLE ONLY sidestep.messages, ONLY sidestep.decisions, ONLY sidestep.message_payloads, ONLY sidestep.message_versions, ONLY sidestep.reactions
            IN ACCESS EXCLUSIVE MODE;
        CONTINUE WHEN NOT sidestep.is_empty_month(v_first);
        FOR v_part IN SELECT p.part FROM sidestep.parts_of_month(v_first) p LOOP
            EXECUTE format('DROP TABLE %s', v_part);
        END LOOP;
        v_dropped := v_dropped + 1;
    END LOOP;
    RETURN v_dropped;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END $$;
COMMENT ON FUNCTION sidestep.drop_empty_months IS 'Drops the months that are over and in which nothing is left of anybody''s; returns how many: all, or none where the store is busy just now.';
