-- migrate:up
-- What all faces share: their words, whose rows a session sees, and how a row that is written by SQL is kept. A face is a
-- schema of views with a source document's names; what is written to one goes through the functions below. The tables
-- themselves get no trigger. Row level security is for the roles of people: the tables' owner, and so the daemon, is not subject to it.

-- Words --------------------------------------------------------------------------------------------------

CREATE TABLE sidestep.vocabulary (
    face text NOT NULL,
    idea text NOT NULL,
    word text NOT NULL,
    means text NOT NULL,
    is_said boolean NOT NULL DEFAULT true,
    is_heard boolean NOT NULL DEFAULT true,
    PRIMARY KEY (face, idea, word, means),
    CHECK (is_said OR is_heard)
);
CREATE UNIQUE INDEX vocabulary_said ON sidestep.vocabulary (face, idea, means) WHERE is_said;
CREATE UNIQUE INDEX vocabulary_heard ON sidestep.vocabulary (face, idea, word) WHERE is_heard;
COMMENT ON TABLE sidestep.vocabulary IS 'Where a face''s word is not ours: the one dictionary, for both ways. A word that is not in it is the same in both.';
COMMENT ON COLUMN sidestep.vocabulary.face IS 'The face, without face_.';
COMMENT ON COLUMN sidestep.vocabulary.idea IS 'What the word is about: direction, type, status, reason, event, action, thread, …';
COMMENT ON COLUMN sidestep.vocabulary.word IS 'The face''s word.';
COMMENT ON COLUMN sidestep.vocabulary.means IS 'Ours.';
COMMENT ON COLUMN sidestep.vocabulary.is_said IS 'The face shows this word for ours.';
COMMENT ON COLUMN sidestep.vocabulary.is_heard IS 'What is written with this word is kept as ours.';

CREATE FUNCTION sidestep.hear(p_face text, p_idea text, p_word text) RETURNS text
LANGUAGE sql STABLE
RETURN coalesce((SELECT means FROM sidestep.vocabulary WHERE face = p_face AND idea = p_idea AND word = p_word AND is_heard), p_word);
COMMENT ON FUNCTION sidestep.hear IS 'Our word for a face''s.';

CREATE FUNCTION sidestep.say(p_face text, p_idea text, p_means text) RETURNS text
LANGUAGE sql STABLE
RETURN coalesce((SELECT word FROM sidestep.vocabulary WHERE face = p_face AND idea = p_idea AND means = p_means AND is_said), p_means);
COMMENT ON FUNCTION sidestep.say IS 'A face''s word for ours. Views that show many rows join the table instead, which is quicker.';

-- Whose rows ---------------------------------------------------------------------------------------------

CREATE TABLE sidestep.tenant_roles (
    tenant_id bigint NOT NULL REFERENCES sidestep.tenants,
    role_name name NOT NULL,
    PRIMARY KEY (tenant_id, role_name)
);
CREATE UNIQUE INDEX tenant_roles_role ON sidestep.tenant_roles (role_name);
COMMENT ON TABLE sidestep.tenant_roles IS 'The login roles that see one tenant and nothing of the others; see sidestep.admit.';
COMMENT ON COLUMN sidestep.tenant_roles.tenant_id IS 'Whom it sees.';
COMMENT ON COLUMN sidestep.tenant_roles.role_name IS 'The role, by its name in PostgreSQL.';

CREATE FUNCTION sidestep.role_tenant() RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT tenant_id FROM sidestep.tenant_roles WHERE role_name = current_user);
COMMENT ON FUNCTION sidestep.role_tenant IS 'The tenant of the role that asks; null: it has none, and by the policies it sees no row.';

CREATE FUNCTION sidestep.face_tenants() RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_setting text := nullif(current_setting('sidestep.tenant', true), '');
    v_tenant bigint := sidestep.role_tenant();
BEGIN
    IF v_tenant IS NULL AND v_setting IS NOT NULL THEN
        SELECT t.tenant_id INTO v_tenant FROM sidestep.tenants t
         WHERE v_setting IN (t.tenant_id::text, t.instance_name) ORDER BY t.tenant_id::text = v_setting DESC LIMIT 1;
        IF v_tenant IS NULL THEN
            RAISE EXCEPTION 'sidestep.tenant is set to "%", which is no tenant', v_setting
                USING ERRCODE = 'invalid_parameter_value', HINT = 'SET sidestep.tenant TO a tenant''s id or instance_name, or RESET sidestep.tenant.';
        END IF;
    END IF;
    IF v_tenant IS NOT NULL THEN
        RETURN ARRAY[v_tenant];
    END IF;
    RETURN ARRAY(SELECT t.tenant_id FROM sidestep.tenants t ORDER BY t.tenant_id);
END $$;
COMMENT ON FUNCTION sidestep.face_tenants IS 'Whose rows the faces show to this session: its role''s tenant; else the one of the setting sidestep.tenant; else, to the owner, all.';

CREATE FUNCTION sidestep.face_tenant() RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_tenants bigint[] := sidestep.face_tenants();
BEGIN
    IF cardinality(v_tenants) > 1 THEN
        RAISE EXCEPTION 'this face shows one tenant, and there are %', cardinality(v_tenants)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'SET sidestep.tenant TO a tenant''s id or instance_name.';
    END IF;
    RETURN v_tenants[1];
END $$;
COMMENT ON FUNCTION sidestep.face_tenant IS 'The one tenant of faces whose documents know no tenants; raises where it is not said which. Null: there is none yet.';

CREATE FUNCTION sidestep.own_tenant(p_tenant bigint, p_table text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_tenant <> ALL (sidestep.face_tenants()) THEN
        RAISE EXCEPTION 'insert or update on table "%" violates its foreign key to tenants', p_table
            USING ERRCODE = 'foreign_key_violation', TABLE = p_table, COLUMN = 'tenant_id',
                  DETAIL = format('Key (tenant_id)=(%s) is not present in table "tenants", or not yours.', p_tenant);
    END IF;
    RETURN p_tenant;
END $$;
COMMENT ON FUNCTION sidestep.own_tenant IS 'A tenant that a row names, if there is one and the session may write as it; raises the foreign key''s error else.';

CREATE FUNCTION sidestep.add_tenant(p_name text, p_prompt text, p_provider text, p_id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_sequence text := pg_get_serial_sequence('sidestep.tenants', 'tenant_id');
    -- What SQL has not said is config.yaml's to say, should it come to name this tenant.
    v_seed jsonb := jsonb_strip_nulls(jsonb_build_object('owner', '', 'admins', '[]'::jsonb, 'auto_resume_after', 7200,
        'system_prompt', CASE WHEN p_prompt IS NULL THEN '' END, 'llm_provider', CASE WHEN p_provider IS NULL THEN 'none' END));
BEGIN
    IF p_id IS NULL THEN
        p_id := nextval(v_sequence);
    ELSIF p_id > coalesce(pg_sequence_last_value(v_sequence::regclass), 0) THEN
        PERFORM setval(v_sequence, p_id);
    END IF;
    INSERT INTO sidestep.tenants (tenant_id, instance_name, owner, system_prompt, llm_provider, auto_resume_after, seed, created_at, updated_at)
    VALUES (p_id, p_name, '', coalesce(p_prompt, ''), coalesce(p_provider, 'none'), interval '2 hours', v_seed, now(), now())
    ON CONFLICT (tenant_id) DO NOTHING; -- another session has just made it
    INSERT INTO sidestep.accounts (tenant_id, name, created_at) VALUES (p_id, p_name, now()) ON CONFLICT DO NOTHING;
    RETURN p_id;
END $$;
COMMENT ON FUNCTION sidestep.add_tenant IS 'Makes a tenant, under a given id if need be, and its first account, as config.yaml would; takeovers end after two hours.';

CREATE FUNCTION sidestep.meet_tenant() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF sidestep.face_tenant() IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.add_tenant', 0)); -- of those who need it at once, one makes it
        IF NOT EXISTS (SELECT FROM sidestep.tenants) THEN
            PERFORM sidestep.add_tenant('default', NULL, NULL);
        END IF;
    END IF;
    RETURN sidestep.face_tenant();
END $$;
COMMENT ON FUNCTION sidestep.meet_tenant IS 'The tenant that a row without one is written for; the first row in an empty store makes it.';

-- Messages -----------------------------------------------------------------------------------------------

-- A UUID of version 8 has 122 bits to give: the 64 of the id come first, so that they sort by time, then 58 of the chat's.
CREATE FUNCTION sidestep.uuid_of(p_chat bigint, p_id bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT (left(h, 12) || '8' || substr(h, 13, 3) || to_hex((-9223372036854775808) | ((p_id & 15) << 58) | p_chat))::uuid
          FROM (SELECT lpad(to_hex(p_id # (-9223372036854775808)), 16, '0') AS h) x);
COMMENT ON FUNCTION sidestep.uuid_of IS 'The one UUID of a message, made of its chat and its id.';

CREATE FUNCTION sidestep.message_of(p_uuid uuid, OUT chat_id bigint, OUT id bigint)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT lo & 288230376151711743, (('x' || left(h, 12) || substr(h, 14, 3) || to_hex((lo >> 58) & 15))::bit(64)::bigint) # (-9223372036854775808)
      FROM (SELECT h, ('x' || right(h, 16))::bit(64)::bigint AS lo FROM (SELECT replace(p_uuid::text, '-', '') AS h) t) x
$$;
COMMENT ON FUNCTION sidestep.message_of IS 'The chat and the id in what uuid_of has made.';

CREATE FUNCTION sidestep.require(p_table text, p_row jsonb, VARIADIC p_columns text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_column text;
BEGIN
    FOREACH v_column IN ARRAY p_columns LOOP
        IF p_row ->> v_column IS NULL THEN
            RAISE EXCEPTION 'null value in column "%" of relation "%" violates not-null constraint', v_column, p_table
                USING ERRCODE = 'not_null_violation', TABLE = p_table, COLUMN = v_column;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.require IS 'What NOT NULL is to a table, to a view.';

CREATE FUNCTION sidestep.refuse_change(p_table text, p_old jsonb, p_new jsonb, VARIADIC p_columns text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_column text;
BEGIN
    FOREACH v_column IN ARRAY p_columns LOOP
        IF p_old -> v_column IS DISTINCT FROM p_new -> v_column THEN
            RAISE EXCEPTION 'column "%" of "%" cannot be changed', v_column, p_table
                USING ERRCODE = 'feature_not_supported', TABLE = p_table, COLUMN = v_column, HINT = 'docs/faces.md tells what can.';
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.refuse_change IS 'Raises where an UPDATE of a view would change what stands fast.';

CREATE FUNCTION sidestep.find_chat(p_tenant bigint, p_channel text, p_jid text) RETURNS bigint
LANGUAGE sql STABLE
RETURN (SELECT a.chat_id FROM sidestep.chat_aliases a JOIN sidestep.accounts n USING (tenant_id, account_id)
         WHERE a.tenant_id = p_tenant AND a.channel = p_channel AND a.jid = p_jid ORDER BY n.removed_at IS NOT NULL, a.account_id LIMIT 1);
COMMENT ON FUNCTION sidestep.find_chat IS 'The chat at an address; of several numbers of a tenant that know it, the first one''s.';

CREATE FUNCTION sidestep.meet_chat(p_tenant bigint, p_channel text, p_jid text, p_is_group boolean, p_name text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_chat bigint := sidestep.find_chat(p_tenant, p_channel, p_jid);
    v_account bigint;
BEGIN
    IF v_chat IS NOT NULL THEN
        RETURN v_chat;
    END IF;
    SELECT account_id INTO v_account FROM sidestep.accounts WHERE tenant_id = p_tenant ORDER BY removed_at IS NOT NULL, account_id LIMIT 1;
    RETURN (SELECT chat_id FROM sidestep.identify_chat(p_tenant, v_account, p_channel, p_jid, NULL, p_is_group, p_name, now()));
END $$;
COMMENT ON FUNCTION sidestep.meet_chat IS 'The chat at an address; one that is new is the tenant''s first number''s.';

CREATE FUNCTION sidestep.meet_sender(p_tenant bigint, p_jid text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_contact bigint;
BEGIN
    IF p_jid IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT contact_id INTO v_contact FROM sidestep.contacts WHERE tenant_id = p_tenant AND p_jid IN (jid, lid) ORDER BY jid = p_jid DESC LIMIT 1;
    IF v_contact IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('sidestep.identify', p_tenant)); -- see identify_sender
        v_contact := sidestep.identify_contact(p_tenant, p_jid, NULL, NULL, now());
    END IF;
    RETURN v_contact;
END $$;
COMMENT ON FUNCTION sidestep.meet_sender IS 'Who wrote in a group; made if new.';

CREATE FUNCTION sidestep.make_month(p_at timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM sidestep.ensure_months(x, x) FROM greatest(least(p_at, now()), timestamptz '2009-01-01Z') x;
END $$;
COMMENT ON FUNCTION sidestep.make_month IS 'Makes the month of a moment in the past, for whoever writes: a tenant''s role may make no tables itself.';

-- The chat is locked before the id, in the order in which a batch locks them that holds an edit of it: else the two would wait
-- for each other in a circle. Threads and changes are asked for only where there is something to do: it takes a third less time.
CREATE FUNCTION sidestep.write_message(p_tenant bigint, p_chat bigint, p_external_id text, p_stored_at timestamptz, p_sent_at timestamptz,
    p_from_me boolean, p_type text, p_text text, p_media_url text, p_sender bigint, p_reply_to text, p_command text, p_metadata jsonb, p_raw jsonb,
    p_unique_in_tenant boolean)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := now();
    -- Never of the future: what comes live after it must get a higher id.
    v_at timestamptz := date_trunc('milliseconds', greatest(least(coalesce(p_stored_at, v_now), v_now), timestamptz '2009-01-01Z'));
    v_sent timestamptz := greatest(least(coalesce(p_sent_at, v_at), v_now + interval '1 day'), timestamptz '2009-01-01Z');
    v_is_past boolean := v_at < v_now - interval '1 second';
    v_group boolean;
    v_sender bigint;
    v_state sidestep.chat_state;
    v_thread bigint;
    v_id bigint;
BEGIN
    PERFORM sidestep.make_month(v_at);
    p_chat := sidestep.hold_chat(p_tenant, p_chat);
    SELECT * INTO STRICT v_state FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR NO KEY UPDATE;
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external_id, p_tenant)); -- after the chat, as record does for what changes this one
    IF p_unique_in_tenant AND EXISTS (SELECT FROM sidestep.message_keys WHERE tenant_id = p_tenant AND external_id = p_external_id) THEN
        RETURN NULL;
    END IF;
    SELECT is_group, CASE WHEN NOT p_from_me THEN coalesce(p_sender, contact_id) END INTO STRICT v_group, v_sender
      FROM sidestep.chats WHERE tenant_id = p_tenant AND chat_id = p_chat;
    v_id := CASE WHEN v_is_past THEN sidestep.milliseconds(v_at) << 20
                 ELSE greatest(sidestep.milliseconds(v_at), (v_state.last_message_id >> 20) + 1) << 20 END
            | (nextval('sidestep.message_sequence') & 1048575);
    INSERT INTO sidestep.message_keys (tenant_id, chat_id, external_id, from_me, sender_id, id)
    VALUES (p_tenant, p_chat, p_external_id, p_from_me, CASE WHEN v_group THEN coalesce(v_sender, 0) ELSE 0 END, v_id) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;

    IF v_is_past THEN
        v_thread := (sidestep.past_threads(p_tenant, ARRAY[p_chat], ARRAY[v_at], v_now))[1];
    ELSIF v_state.active_thread_id IS NULL THEN
        PERFORM sidestep.open_threads(p_tenant, ARRAY[p_chat], v_now);
    END IF;
    UPDATE sidestep.chat_state SET last_message_id = greatest(last_message_id, v_id), last_message_at = greatest(last_message_at, v_at)
     WHERE tenant_id = p_tenant AND chat_id = p_chat RETURNING coalesce(v_thread, active_thread_id) INTO v_thread;
    INSERT INTO sidestep.messages (tenant_id, chat_id, id, thread_id, direction, author, type, external_id, sender_id, sender_device,
                                   is_group, text, media_url, reply_to, command, metadata, sent_at)
    VALUES (p_tenant, p_chat, v_id, v_thread, CASE WHEN p_from_me THEN 'outbound' ELSE 'inbound' END, CASE WHEN p_from_me THEN 'human' ELSE 'customer' END,
            p_type, p_external_id, v_sender, CASE WHEN p_from_me THEN 0 END, v_group, p_text, p_media_url, p_reply_to, p_command, p_metadata, v_sent);
    INSERT INTO sidestep.message_payloads (tenant_id, chat_id, id, raw) SELECT p_tenant, p_chat, v_id, p_raw WHERE p_raw IS NOT NULL;
    -- A record: decided, so that nobody answers it, and not in the outbox, so that nobody sends it.
    INSERT INTO sidestep.decisions (tenant_id, chat_id, message_id, action_taken, decided_at) VALUES (p_tenant, p_chat, v_id, 'imported', v_now);
    IF EXISTS (SELECT FROM sidestep.early_changes WHERE tenant_id = p_tenant AND external_id = p_external_id) THEN
        PERFORM sidestep.apply_changes(p_tenant, ARRAY[p_chat], ARRAY[p_external_id]);
    END IF;
    RETURN v_id;
END $$;
COMMENT ON FUNCTION sidestep.write_message IS 'Keeps one message that was written by SQL: in the chat''s active thread, or in that of its time if it is of the past. It wakes nobody and is never sent. Null: it is here already.';

CREATE FUNCTION sidestep.remove_message(p_tenant bigint, p_chat bigint, p_id bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sidestep.media WHERE tenant_id = p_tenant AND chat_id = p_chat AND message_id = p_id;
    DELETE FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    DELETE FROM sidestep.decisions WHERE tenant_id = p_tenant AND chat_id = p_chat AND message_id = p_id;
    DELETE FROM sidestep.message_payloads WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    DELETE FROM sidestep.message_versions WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    DELETE FROM sidestep.reactions WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    DELETE FROM sidestep.messages WHERE tenant_id = p_tenant AND chat_id = p_chat AND id = p_id;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION sidestep.remove_message IS 'Deletes a message with all that hangs on it, for good. Its key stays: what was here once is not taken for new.';

CREATE FUNCTION sidestep.remove_chat(p_tenant bigint, p_chat bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM sidestep.chat_state WHERE tenant_id = p_tenant AND chat_id = p_chat FOR UPDATE;
    DELETE FROM sidestep.media WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.outbox WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.decisions WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.message_payloads WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.message_versions WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.reactions WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.early_changes WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.messages WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.message_keys WHERE tenant_id = p_tenant AND chat_id = p_chat;
    DELETE FROM sidestep.chats WHERE tenant_id = p_tenant AND p_chat IN (chat_id, merged_into);
END $$;
COMMENT ON FUNCTION sidestep.remove_chat IS 'Deletes a chat with all that was said in it, for good; should it come again, it is new.';

-- Search for the roles of people. A policy would keep the index of words from being used, and the months themselves are
-- closed to them: so the search asks as the owner, for the one tenant of who has logged in.
CREATE FUNCTION sidestep.find_messages(p_text text, p_chat bigint DEFAULT NULL, p_limit int DEFAULT 50, p_before bigint DEFAULT 9223372036854775807)
RETURNS TABLE (chat_id bigint, id bigint, marked text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- Within this function everybody is the owner; who has logged in stays who it is.
    v_is_owner boolean := pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'sidestep.messages'::regclass), 'USAGE');
    v_tenant bigint := CASE WHEN v_is_owner THEN sidestep.face_tenant()
                            ELSE (SELECT r.tenant_id FROM sidestep.tenant_roles r WHERE r.role_name = session_user) END;
BEGIN
    IF v_tenant IS NOT NULL THEN
        RETURN QUERY SELECT s.* FROM sidestep.search(v_tenant, p_chat, p_text, '{}', -9223372036854775808, p_before, least(p_limit, 500)) s;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.find_messages IS 'As search, for the tenant of the login role, or the owner''s sidestep.tenant: messages with these words, newest first.';

-- Sizes --------------------------------------------------------------------------------------------------

CREATE TABLE sidestep.face_tables (
    face text NOT NULL,
    name text NOT NULL,
    core text[] NOT NULL,
    PRIMARY KEY (face, name)
);
COMMENT ON TABLE sidestep.face_tables IS 'Which tables of ours are behind a face''s: asked for its size, it tells theirs.';
COMMENT ON COLUMN sidestep.face_tables.face IS 'The face, without face_.';
COMMENT ON COLUMN sidestep.face_tables.name IS 'Its table''s name.';
COMMENT ON COLUMN sidestep.face_tables.core IS 'Ours, in the schema sidestep.';

CREATE FUNCTION sidestep.relation_size(p_face text, p_relation text) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_relation regclass := p_relation::regclass;
    v_core text[];
BEGIN
    SELECT t.core INTO v_core FROM sidestep.face_tables t JOIN pg_class c ON c.relname = t.name
     WHERE t.face = p_face AND c.oid = v_relation AND c.relkind = 'v' AND c.relnamespace::regnamespace::text IN ('face_' || p_face, 'public');
    IF v_core IS NULL THEN
        RETURN pg_catalog.pg_total_relation_size(v_relation);
    END IF;
    RETURN (SELECT sum(pg_catalog.pg_total_relation_size(c.oid)) FROM unnest(v_core) n, pg_class r, LATERAL (
                SELECT r.oid UNION SELECT relid FROM pg_partition_tree(r.oid)) c (oid)
             WHERE r.relname = n AND r.relnamespace = 'sidestep'::regnamespace);
END $$;
COMMENT ON FUNCTION sidestep.relation_size IS 'What a relation takes on disk with its indexes; of a face''s view, what the tables behind it take, all months together.';

-- The wall -----------------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.wall_off() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_table record;
    v_role name;
    v_schema name;
BEGIN
    FOR v_table IN
        SELECT c.oid, c.relname, c.relrowsecurity FROM pg_class c
         WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
    LOOP
        IF NOT v_table.relrowsecurity THEN
            EXECUTE format('ALTER TABLE sidestep.%I ENABLE ROW LEVEL SECURITY', v_table.relname);
        END IF;
        IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = v_table.oid) THEN
            EXECUTE format('CREATE POLICY own_tenant ON sidestep.%I USING (tenant_id = (SELECT sidestep.role_tenant()))', v_table.relname);
        END IF;
    END LOOP;
    FOR v_role IN SELECT role_name FROM sidestep.tenant_roles JOIN pg_roles ON rolname = role_name LOOP
        FOR v_schema IN SELECT nspname FROM pg_namespace WHERE nspname = 'sidestep' OR nspname LIKE 'face\_%' LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', v_schema, v_role);
            CONTINUE WHEN v_schema = 'sidestep';
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', (
                SELECT string_agg(format('%I.%I', v_schema, relname), ', ') FROM pg_class
                 WHERE relnamespace = v_schema::regnamespace AND relkind = 'v'), v_role);
        END LOOP;
        PERFORM sidestep.grant_core(v_role);
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.wall_off IS 'Gives every table with tenants its policy, and every tenant''s role what it may use; to be called again when there are new ones. Migrating does.';

-- Who serves what is no business of people's to change.
CREATE FUNCTION sidestep.grant_core(p_role name) RETURNS void
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
                   WHEN c.relkind = 'v' OR c.relname IN ('vocabulary', 'face_tables', 'tenant_roles', 'quarantine', 'leases') THEN 'SELECT'
                   ELSE 'SELECT, INSERT, UPDATE, DELETE' END AS rights
          FROM pg_class c WHERE c.relnamespace = 'sidestep'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
    LOOP
        CONTINUE WHEN v_table.rights IS NULL;
        EXECUTE format('GRANT %s ON sidestep.%I TO %I', v_table.rights, v_table.relname, p_role);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SEQUENCE sidestep.message_sequence TO %I', p_role);
END $$;
COMMENT ON FUNCTION sidestep.grant_core IS 'What a tenant''s role may do in the core, below its policies.';

CREATE FUNCTION sidestep.admit(p_role text, p_tenant text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint;
BEGIN
    SELECT t.tenant_id INTO v_tenant FROM sidestep.tenants t
     WHERE p_tenant IN (t.tenant_id::text, t.instance_name) ORDER BY t.tenant_id::text = p_tenant DESC LIMIT 1;
    IF v_tenant IS NULL THEN
        RAISE EXCEPTION 'there is no tenant "%"', p_tenant USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        RAISE EXCEPTION 'there is no role "%"', p_role USING ERRCODE = 'undefined_object',
            HINT = format('CREATE ROLE %I LOGIN PASSWORD ''…'', which takes the right CREATEROLE.', p_role);
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = p_role AND (rolsuper OR rolbypassrls))
       OR pg_has_role(p_role, (SELECT relowner FROM pg_class WHERE oid = 'sidestep.messages'::regclass), 'MEMBER') THEN
        RAISE EXCEPTION 'the role "%" is above the wall: it owns the tables, or bypasses row security', p_role
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Make a role of its own for the tenant.';
    END IF;
    INSERT INTO sidestep.tenant_roles VALUES (v_tenant, p_role);
    PERFORM sidestep.wall_off();
END $$;
COMMENT ON FUNCTION sidestep.admit IS 'Lets a login role see and write what is one tenant''s (by id or instance_name), in the faces and in the core, and nothing else.';

CREATE FUNCTION sidestep.dismiss(p_role text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_schema name;
BEGIN
    DELETE FROM sidestep.tenant_roles WHERE role_name = p_role;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = p_role) THEN
        FOR v_schema IN SELECT nspname FROM pg_namespace WHERE nspname = 'sidestep' OR nspname LIKE 'face\_%' LOOP
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %1$I FROM %2$I; REVOKE ALL ON ALL SEQUENCES IN SCHEMA %1$I FROM %2$I; REVOKE ALL ON SCHEMA %1$I FROM %2$I',
                           v_schema, p_role);
        END LOOP;
    END IF;
END $$;
COMMENT ON FUNCTION sidestep.dismiss IS 'Takes back what admit gave, so that the role can be dropped.';

-- Its own line alone, by which its tenant is known.
CREATE POLICY own_role ON sidestep.tenant_roles USING (role_name = current_user);

SELECT sidestep.wall_off();

-- Beyond that of their tenant:

CREATE POLICY never_sent ON sidestep.outbox AS RESTRICTIVE FOR UPDATE USING (true)
    WITH CHECK (due_at IS NULL AND status NOT IN ('queued', 'sending'));
COMMENT ON POLICY never_sent ON sidestep.outbox IS 'What people write is never sent: they may only cancel, and tell what became of it.';
CREATE POLICY never_answered ON sidestep.decisions AS RESTRICTIVE FOR INSERT WITH CHECK (action_taken IS NOT NULL);
COMMENT ON POLICY never_answered ON sidestep.decisions IS 'What people write is never answered: it comes decided.';
CREATE POLICY stays_decided ON sidestep.decisions AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (action_taken IS NOT NULL);
COMMENT ON POLICY stays_decided ON sidestep.decisions IS 'And what was decided stays so.';
CREATE POLICY never_told ON sidestep.notices AS RESTRICTIVE FOR INSERT WITH CHECK (told_at IS NOT NULL);
COMMENT ON POLICY never_told ON sidestep.notices IS 'What people write is never sent: it comes told.';
CREATE POLICY stays_told ON sidestep.notices AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (told_at IS NOT NULL);
COMMENT ON POLICY stays_told ON sidestep.notices IS 'And what was told stays so.';
-- Of media they may tell where they lie elsewhere, and forget their own. They have nothing fetched, and touch no file.
CREATE POLICY never_fetched ON sidestep.media AS RESTRICTIVE FOR INSERT WITH CHECK (due_at IS NULL AND sha256 IS NULL AND thumbnail IS NULL);
COMMENT ON POLICY never_fetched ON sidestep.media IS 'What people write is a record of a file, wherever it lies.';
CREATE POLICY stays_unfetched ON sidestep.media AS RESTRICTIVE FOR UPDATE USING (true) WITH CHECK (due_at IS NULL);
COMMENT ON POLICY stays_unfetched ON sidestep.media IS 'Nor does a change make it fetched.';

-- The public schema --------------------------------------------------------------------------------------

CREATE FUNCTION sidestep.public_face_objects() RETURNS TABLE (object text, behind text)
LANGUAGE sql STABLE AS $$
    SELECT 'VIEW ' || c.oid::regclass, substr(d.description, 11) FROM pg_class c
      JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
     WHERE c.relnamespace = to_regnamespace('public') AND c.relkind = 'v' AND d.description LIKE 'Sidestep: face\_%'
    UNION ALL
    SELECT 'FUNCTION ' || p.oid::regprocedure, substr(d.description, 11) FROM pg_proc p
      JOIN pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_proc'::regclass
     WHERE p.pronamespace = to_regnamespace('public') AND d.description LIKE 'Sidestep: face\_%'
$$;
COMMENT ON FUNCTION sidestep.public_face_objects IS 'What show_public_face has put into the schema public, told by its comment, and what of the face is behind it.';

CREATE FUNCTION sidestep.hide_public_face(p_but text DEFAULT '') RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_object text;
BEGIN
    FOR v_object IN SELECT o.object FROM sidestep.public_face_objects() o WHERE split_part(o.behind, '.', 1) <> 'face_' || p_but LOOP
        EXECUTE 'DROP ' || v_object;
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.hide_public_face IS 'Removes the face that show_public_face has put into the schema public, and nothing else there.';

CREATE FUNCTION sidestep.show_public_face(p_face text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_schema text := 'face_' || p_face;
    v_object record;
    v_create text;
BEGIN
    IF to_regnamespace(v_schema) IS NULL THEN
        RAISE EXCEPTION 'there is no face "%"', p_face USING ERRCODE = 'invalid_schema_name';
    END IF;
    PERFORM sidestep.hide_public_face(p_face);
    FOR v_object IN
        SELECT 'VIEW' AS kind, relname AS name, format('public.%I', relname) AS target,
               format('WITH (security_invoker = true) AS SELECT * FROM %I.%I', v_schema, relname) AS body
          FROM pg_class WHERE relnamespace = v_schema::regnamespace AND relkind = 'v'
        UNION ALL
        SELECT 'FUNCTION', p.proname, format('public.%I(%s)', p.proname, pg_get_function_arguments(p.oid)),
               format('RETURNS %s LANGUAGE sql AS %L', pg_get_function_result(p.oid),
                      format('SELECT %I.%I(%s)', v_schema, p.proname, (SELECT string_agg('$' || n, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) n)))
          FROM pg_proc p WHERE p.pronamespace = v_schema::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'void'::regtype)
    LOOP
        -- Only what is ours is replaced.
        v_create := CASE WHEN EXISTS (SELECT FROM sidestep.public_face_objects() WHERE behind = v_schema || '.' || v_object.name)
                         THEN 'CREATE OR REPLACE ' ELSE 'CREATE ' END;
        EXECUTE v_create || format('%s %s %s', v_object.kind, v_object.target, v_object.body);
        EXECUTE format('COMMENT ON %s %s IS %L', v_object.kind, regexp_replace(v_object.target, ' DEFAULT [^,)]*', '', 'g'),
                       format('Sidestep: %s.%s', v_schema, v_object.name));
    END LOOP;
END $$;
COMMENT ON FUNCTION sidestep.show_public_face IS 'Puts one face into the schema public too, in the place of another. What is there under one of its names and not ours makes it fail.';
