-- migrate:up
-- What a tenant's role may do with media: tell of files that lie elsewhere, and forget its own. It has nothing fetched for
-- it, and touches no file.

CREATE POLICY never_fetched ON sidestep.media AS RESTRICTIVE FOR INSERT WITH CHECK (due_at IS NULL AND sha256 IS NULL AND thumbnail IS NULL);
COMMENT ON POLICY never_fetched ON sidestep.media IS 'What people write is a record of a file, wherever it lies.';
CREATE POLICY stays_unfetched ON sidestep.media AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (due_at IS NULL);
COMMENT ON POLICY stays_unfetched ON sidestep.media IS 'Nor does a change make it fetched.';

CREATE OR REPLACE FUNCTION sidestep.grant_core(p_role name) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_table record;
BEGIN
    FOR v_table IN
        SELECT c.relname, CASE
                   WHEN c.relname = 'schema_migrations' THEN NULL
                   -- The session of a number is no business of people's.
                   WHEN c.relname = 'accounts' THEN 'SELECT (tenant_id, account_id, name, channel, jid, lid, paired_at, moved_to, removed_at, created_at)'
                   WHEN c.relname = 'tenants' THEN 'SELECT, UPDATE'
                   WHEN c.relname = 'outbox' THEN 'SELECT, UPDATE, DELETE'
                   WHEN c.relname = 'blobs' THEN 'SELECT, UPDATE (is_unused)' -- when its last medium is forgotten
                   WHEN c.relkind = 'v' OR c.relname IN ('vocabulary', 'face_tables', 'tenant_roles', 'quarantine') THEN 'SELECT'
                   ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
          FROM pg_class c WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    LOOP
        CONTINUE WHEN v_table.rights IS NULL;
        EXECUTE format('GRANT %s ON sidestep.%I TO %I', v_table.rights, v_table.relname, p_role);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SEQUENCE sidestep.message_sequence TO %I', p_role);
END $$;

SELECT sidestep.wall_off();
