-- migrate:up
-- The face of the Whaply document: tenants, sessions, messages and processed_events, and its two functions.

CREATE TABLE sidestep.noted_events (
    tenant_id bigint NOT NULL REFERENCES sidestep.tenants,
    external_id text NOT NULL,
    event_type text NOT NULL,
    action_taken text,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, external_id, event_type)
);
COMMENT ON TABLE sidestep.noted_events IS 'Events that others have handled and entered in the ledger by SQL; what the bot itself has decided stands in decisions.';
COMMENT ON COLUMN sidestep.noted_events.tenant_id IS 'Whose.';
COMMENT ON COLUMN sidestep.noted_events.external_id IS 'The platform''s id of the message; it need not be here.';
COMMENT ON COLUMN sidestep.noted_events.event_type IS 'As in decisions, or the writer''s own word.';
COMMENT ON COLUMN sidestep.noted_events.action_taken IS 'What they did.';
COMMENT ON COLUMN sidestep.noted_events.noted_at IS 'When.';

INSERT INTO sidestep.vocabulary (face, idea, word, means, is_said, is_heard) VALUES
    ('whaply', 'type', 'conversation', 'text', true, true),
    ('whaply', 'type', 'text', 'text', false, true),
    ('whaply', 'type', 'extendedTextMessage', 'text', false, true),
    ('whaply', 'type', 'imageMessage', 'image', false, true),
    ('whaply', 'type', 'videoMessage', 'video', false, true),
    ('whaply', 'type', 'audioMessage', 'audio', false, true),
    ('whaply', 'type', 'documentMessage', 'document', false, true),
    ('whaply', 'type', 'stickerMessage', 'sticker', false, true),
    ('whaply', 'type', 'locationMessage', 'location', false, true),
    ('whaply', 'type', 'contactMessage', 'contact', false, true),
    ('whaply', 'event', 'messages.upsert', 'message', true, true),
    ('whaply', 'event', 'messages.update', 'repeat', true, true),
    ('whaply', 'event', 'messages.live', 'live', true, true),
    ('whaply', 'reason', 'human_intervention', 'human_takeover', false, true),
    ('whaply', 'reason', 'manual', 'manual_pause', false, true);
INSERT INTO sidestep.face_tables VALUES
    ('whaply', 'tenants', '{tenants}'),
    ('whaply', 'sessions', '{chat_state,chats}'),
    ('whaply', 'messages', '{messages,message_payloads,message_keys}'),
    ('whaply', 'processed_events', '{decisions,noted_events}');

CREATE SCHEMA face_whaply;
COMMENT ON SCHEMA face_whaply IS 'The store as the Whaply document names it: tenants, sessions, messages, processed_events. See docs/faces.md.';

CREATE FUNCTION face_whaply.pg_total_relation_size(text) RETURNS bigint LANGUAGE sql STABLE
RETURN sidestep.relation_size('whaply', $1);
COMMENT ON FUNCTION face_whaply.pg_total_relation_size IS 'As the catalog''s; of a view here, the size of what is behind it.';

-- tenants ------------------------------------------------------------------------------------------------

CREATE VIEW face_whaply.tenants WITH (security_invoker = true) AS
SELECT t.tenant_id::integer AS id, t.instance_name::varchar(255), t.bridge_url::varchar(500) AS evo_server_url, t.bridge_key::varchar(500) AS evo_api_key,
       t.system_prompt, t.llm_provider::varchar(50), t.created_at, t.updated_at
  FROM sidestep.tenants t
 WHERE t.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]);
COMMENT ON VIEW face_whaply.tenants IS 'WhatsApp instances/tenants.';

CREATE FUNCTION face_whaply.write_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.require('tenants', to_jsonb(NEW), 'instance_name');
    IF TG_OP = 'INSERT' THEN
        NEW.id := sidestep.add_tenant(NEW.instance_name, NEW.system_prompt, NEW.llm_provider, NEW.id);
    ELSE
        PERFORM sidestep.refuse_change('tenants', to_jsonb(OLD), to_jsonb(NEW), 'id', 'created_at');
    END IF;
    UPDATE sidestep.tenants
       SET instance_name = NEW.instance_name, bridge_url = NEW.evo_server_url, bridge_key = NEW.evo_api_key,
           system_prompt = coalesce(NEW.system_prompt, ''), llm_provider = coalesce(NEW.llm_provider, 'none'), updated_at = now()
     WHERE tenant_id = NEW.id
    RETURNING system_prompt, llm_provider, created_at, updated_at INTO NEW.system_prompt, NEW.llm_provider, NEW.created_at, NEW.updated_at;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_whaply.write_tenant IS 'A prompt written here counts from the next answer on, over config.yaml.';
CREATE TRIGGER write_tenant INSTEAD OF INSERT OR UPDATE ON face_whaply.tenants FOR EACH ROW EXECUTE FUNCTION face_whaply.write_tenant();

-- sessions -----------------------------------------------------------------------------------------------

CREATE VIEW face_whaply.sessions WITH (security_invoker = true) AS
SELECT s.chat_id::integer AS id, s.tenant_id::integer, coalesce(p.jid, c.jid)::varchar(255) AS chat_id, s.is_paused,
       coalesce(v.word, s.pause_reason)::varchar(100) AS pause_reason, s.last_message_at, s.last_human_at, c.created_at,
       greatest(c.updated_at, s.last_message_at, s.last_human_at, s.paused_at) AS updated_at
  FROM sidestep.chat_state s
  JOIN sidestep.chats c ON c.tenant_id = s.tenant_id AND c.chat_id = s.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.vocabulary v ON v.face = 'whaply' AND v.idea = 'reason' AND v.means = s.pause_reason AND v.is_said
 WHERE s.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]) AND c.channel = 'whatsapp';
COMMENT ON VIEW face_whaply.sessions IS 'Conversation state tracking: one row a chat.';
ALTER VIEW face_whaply.sessions ALTER COLUMN is_paused SET DEFAULT false;

CREATE FUNCTION face_whaply.write_session() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint;
    v_was_paused boolean := false;
    v_reason text;
BEGIN
    PERFORM sidestep.require('sessions', to_jsonb(NEW), 'tenant_id', 'chat_id', 'is_paused');
    v_tenant := sidestep.own_tenant(NEW.tenant_id, 'sessions');
    IF TG_OP = 'INSERT' THEN
        IF sidestep.find_chat(v_tenant, 'whatsapp', NEW.chat_id) IS NOT NULL THEN
            RAISE EXCEPTION 'duplicate key value violates unique constraint "sessions_tenant_id_chat_id_key"'
                USING ERRCODE = 'unique_violation', TABLE = 'sessions', DETAIL = 'This chat has a session; UPDATE it.';
        END IF;
        NEW.id := sidestep.meet_chat(v_tenant, 'whatsapp', NEW.chat_id, NEW.chat_id LIKE '%@g.us', NULL);
    ELSE
        PERFORM sidestep.refuse_change('sessions', to_jsonb(OLD), to_jsonb(NEW), 'id', 'tenant_id', 'chat_id', 'created_at');
        v_was_paused := OLD.is_paused;
    END IF;
    -- Whatever stops the bot is obeyed: a reason of the writer's own counts as a pause by hand.
    v_reason := sidestep.hear('whaply', 'reason', coalesce(NEW.pause_reason, 'manual_pause'));
    IF v_reason NOT IN ('human_takeover', 'manual_pause', 'ai_handoff', 'customer_request') THEN
        v_reason := 'manual_pause';
    END IF;
    IF NEW.is_paused AND (NOT v_was_paused OR NEW.pause_reason IS DISTINCT FROM OLD.pause_reason) THEN
        PERFORM sidestep.pause(v_tenant, NEW.id, v_reason, now(), NULL);
        NEW.pause_reason := sidestep.say('whaply', 'reason', v_reason);
        IF v_reason = 'human_takeover' THEN
            NEW.last_human_at := CASE WHEN TG_OP = 'UPDATE' AND NEW.last_human_at IS NOT DISTINCT FROM OLD.last_human_at THEN now() ELSE coalesce(NEW.last_human_at, now()) END;
        END IF;
    ELSIF v_was_paused AND NOT NEW.is_paused THEN
        PERFORM sidestep.resume(v_tenant, NEW.id);
        NEW.pause_reason := NULL;
    END IF;
    UPDATE sidestep.chat_state SET last_human_at = NEW.last_human_at, last_message_at = NEW.last_message_at
     WHERE tenant_id = v_tenant AND chat_id = NEW.id
       AND (last_human_at, last_message_at) IS DISTINCT FROM (NEW.last_human_at, NEW.last_message_at);
    NEW.updated_at := now();
    NEW.created_at := coalesce(NEW.created_at, now());
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_whaply.write_session IS 'A pause or its end, written here, is the daemon''s own: it raises the epoch.';
CREATE TRIGGER write_session INSTEAD OF INSERT OR UPDATE ON face_whaply.sessions FOR EACH ROW EXECUTE FUNCTION face_whaply.write_session();

-- messages -----------------------------------------------------------------------------------------------

CREATE VIEW face_whaply.messages WITH (security_invoker = true) AS
SELECT m.id, m.tenant_id::integer, coalesce(p.jid, c.jid)::varchar(255) AS chat_id,
       coalesce(m.external_id, o.external_id, 'sidestep:' || m.id)::varchar(255) AS message_id, m.direction = 'outbound' AS from_me,
       coalesce(v.word, m.type)::varchar(50) AS message_type, m.text, r.raw, sidestep.id_time(m.id) AS created_at
  FROM sidestep.messages m
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.message_payloads r ON r.tenant_id = m.tenant_id AND r.chat_id = m.chat_id AND r.id = m.id
  LEFT JOIN sidestep.vocabulary v ON v.face = 'whaply' AND v.idea = 'type' AND v.means = m.type AND v.is_said
 WHERE m.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]) AND c.channel = 'whatsapp';
COMMENT ON VIEW face_whaply.messages IS 'Message history.';
ALTER VIEW face_whaply.messages ALTER COLUMN from_me SET DEFAULT false;
ALTER VIEW face_whaply.messages ALTER COLUMN message_type SET DEFAULT 'conversation';
ALTER VIEW face_whaply.messages ALTER COLUMN created_at SET DEFAULT now();

CREATE FUNCTION face_whaply.insert_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint;
BEGIN
    PERFORM sidestep.require('messages', to_jsonb(NEW), 'tenant_id', 'chat_id', 'message_id', 'from_me');
    v_tenant := sidestep.own_tenant(NEW.tenant_id, 'messages');
    NEW.id := sidestep.write_message(
        v_tenant, sidestep.meet_chat(v_tenant, 'whatsapp', NEW.chat_id, NEW.chat_id LIKE '%@g.us', NULL), NEW.message_id, NEW.created_at, NULL,
        NEW.from_me, sidestep.hear('whaply', 'type', coalesce(NEW.message_type, 'conversation')), NEW.text, NULL,
        CASE WHEN NEW.chat_id LIKE '%@g.us' AND NOT NEW.from_me THEN
            sidestep.meet_sender(v_tenant, coalesce(NEW.raw #>> '{key,participant}', NEW.raw #>> '{data,key,participant}')) END,
        NULL, NULL, NULL, NEW.raw, true);
    NEW.created_at := sidestep.id_time(NEW.id);
    RETURN CASE WHEN NEW.id IS NOT NULL THEN NEW END;
END $$;
COMMENT ON FUNCTION face_whaply.insert_message IS 'A message that is here already changes nothing.';
CREATE TRIGGER insert_message INSTEAD OF INSERT ON face_whaply.messages FOR EACH ROW EXECUTE FUNCTION face_whaply.insert_message();

CREATE FUNCTION face_whaply.delete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.remove_message(m.tenant_id, m.chat_id, m.id) FROM sidestep.messages m WHERE m.tenant_id = OLD.tenant_id AND m.id = OLD.id;
    RETURN CASE WHEN FOUND THEN OLD END;
END $$;
COMMENT ON FUNCTION face_whaply.delete_message IS 'Deletes for good, whatever the row is moved to.';
CREATE TRIGGER delete_message INSTEAD OF DELETE ON face_whaply.messages FOR EACH ROW EXECUTE FUNCTION face_whaply.delete_message();

-- processed_events ---------------------------------------------------------------------------------------

CREATE VIEW face_whaply.processed_events WITH (security_invoker = true) AS
SELECT hashtextextended(d.event_type, d.message_id) & 9223372036854775807 AS id, d.tenant_id::integer,
       coalesce(m.external_id, o.external_id, 'sidestep:' || m.id)::varchar(255) AS message_id,
       coalesce(v.word, d.event_type)::varchar(100) AS event_type, d.action_taken::varchar(100), d.decided_at AS processed_at
  FROM sidestep.decisions d
  JOIN sidestep.messages m ON m.tenant_id = d.tenant_id AND m.chat_id = d.chat_id AND m.id = d.message_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = d.tenant_id AND o.chat_id = d.chat_id AND o.id = d.message_id
  LEFT JOIN sidestep.vocabulary v ON v.face = 'whaply' AND v.idea = 'event' AND v.means = d.event_type AND v.is_said
 WHERE d.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]) AND d.action_taken <> 'imported' AND d.forgotten_at IS NULL
 UNION ALL
SELECT hashtextextended(n.event_type, hashtextextended(n.external_id, n.tenant_id)) & 9223372036854775807, n.tenant_id::integer, n.external_id::varchar(255),
       coalesce(v.word, n.event_type)::varchar(100), n.action_taken::varchar(100), n.noted_at
  FROM sidestep.noted_events n
  LEFT JOIN sidestep.vocabulary v ON v.face = 'whaply' AND v.idea = 'event' AND v.means = n.event_type AND v.is_said
 WHERE n.tenant_id = ANY ((SELECT sidestep.face_tenants())::bigint[]);
COMMENT ON VIEW face_whaply.processed_events IS 'Idempotency tracking: what was decided about each event, by the bot or by whoever wrote it here. Messages that are mere records have none.';
ALTER VIEW face_whaply.processed_events ALTER COLUMN processed_at SET DEFAULT now();

CREATE FUNCTION face_whaply.insert_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.require('processed_events', to_jsonb(NEW), 'tenant_id', 'message_id', 'event_type');
    PERFORM sidestep.own_tenant(NEW.tenant_id, 'processed_events');
    IF EXISTS (SELECT FROM sidestep.message_keys k
                 JOIN sidestep.decisions d ON d.tenant_id = k.tenant_id AND d.chat_id = k.chat_id AND d.message_id = k.id
                WHERE k.tenant_id = NEW.tenant_id AND k.external_id = NEW.message_id AND d.action_taken <> 'imported' AND d.forgotten_at IS NULL
                  AND d.event_type = sidestep.hear('whaply', 'event', NEW.event_type)) THEN
        RAISE EXCEPTION 'duplicate key value violates unique constraint "processed_events_tenant_id_message_id_event_type_key"'
            USING ERRCODE = 'unique_violation', TABLE = 'processed_events', DETAIL = 'The bot has decided this event itself.';
    END IF;
    INSERT INTO sidestep.noted_events (tenant_id, external_id, event_type, action_taken, noted_at)
    VALUES (NEW.tenant_id, NEW.message_id, sidestep.hear('whaply', 'event', NEW.event_type), NEW.action_taken, coalesce(NEW.processed_at, now()))
    RETURNING hashtextextended(event_type, hashtextextended(external_id, tenant_id)) & 9223372036854775807, noted_at INTO NEW.id, NEW.processed_at;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_whaply.insert_event IS 'Enters what others have handled; it decides nothing for the bot.';
CREATE TRIGGER insert_event INSTEAD OF INSERT ON face_whaply.processed_events FOR EACH ROW EXECUTE FUNCTION face_whaply.insert_event();

CREATE FUNCTION face_whaply.delete_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM sidestep.noted_events
     WHERE tenant_id = OLD.tenant_id AND external_id = OLD.message_id AND event_type = sidestep.hear('whaply', 'event', OLD.event_type);
    UPDATE sidestep.decisions d SET forgotten_at = now()
      FROM (SELECT chat_id, id FROM sidestep.message_keys WHERE tenant_id = OLD.tenant_id AND external_id = OLD.message_id
             UNION SELECT chat_id, id FROM sidestep.messages
                    WHERE tenant_id = OLD.tenant_id AND id = substring(OLD.message_id FROM '^sidestep:(-?\d{1,18})$')::bigint) k
     WHERE d.tenant_id = OLD.tenant_id AND d.chat_id = k.chat_id AND d.message_id = k.id
       AND d.event_type = sidestep.hear('whaply', 'event', OLD.event_type) AND d.action_taken IS NOT NULL;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION face_whaply.delete_event IS 'Takes a line out of the ledger. What the bot has decided stays decided.';
CREATE TRIGGER delete_event INSTEAD OF DELETE ON face_whaply.processed_events FOR EACH ROW EXECUTE FUNCTION face_whaply.delete_event();

CREATE FUNCTION face_whaply.cleanup_old_processed_events(days_to_keep integer DEFAULT 7) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_before timestamptz := now() - make_interval(days => days_to_keep);
    v_tenants bigint[] := sidestep.face_tenants();
    v_noted integer;
    v_decided integer;
BEGIN
    DELETE FROM sidestep.noted_events WHERE tenant_id = ANY (v_tenants) AND noted_at < v_before;
    GET DIAGNOSTICS v_noted = ROW_COUNT;
    UPDATE sidestep.decisions SET forgotten_at = now()
     WHERE tenant_id = ANY (v_tenants) AND action_taken <> 'imported' AND forgotten_at IS NULL AND decided_at < v_before;
    GET DIAGNOSTICS v_decided = ROW_COUNT;
    RETURN v_noted + v_decided;
END $$;
COMMENT ON FUNCTION face_whaply.cleanup_old_processed_events IS 'Clears the ledger of what is older; returns how many lines. No message becomes undecided by it.';

CREATE FUNCTION face_whaply.auto_resume_paused_sessions(hours_inactive integer DEFAULT 2) RETURNS integer LANGUAGE sql AS $$
    SELECT coalesce(sum(sidestep.resume_idle(t, now(), make_interval(hours => hours_inactive))), 0)::integer
      FROM unnest(sidestep.face_tenants()) t
$$;
COMMENT ON FUNCTION face_whaply.auto_resume_paused_sessions IS 'Ends the pauses whose human has been silent that long; returns how many. A pause by hand or for a time is left alone, as by the clock.';

SELECT sidestep.wall_off();
