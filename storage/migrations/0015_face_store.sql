-- migrate:up
-- The face of the message storage document: one table of 24 columns, for one tenant.

INSERT INTO sidestep.vocabulary (face, idea, word, means, is_said, is_heard) VALUES
    ('store', 'direction', 'incoming', 'inbound', true, true),
    ('store', 'direction', 'outgoing', 'outbound', true, true),
    ('store', 'type', 'photo', 'image', false, true),
    ('store', 'type', 'file', 'document', false, true),
    ('store', 'status', 'queued', 'queued', true, true),
    ('store', 'status', 'queued', 'sending', true, false),
    ('store', 'status', 'failed', 'failed', true, true),
    ('store', 'status', 'failed', 'cancelled', true, false),
    ('store', 'status', 'failed', 'unknown', true, false);
INSERT INTO sidestep.face_tables VALUES ('store', 'messages', '{messages,message_keys,message_payloads,outbox,media}');

CREATE SCHEMA face_store;
COMMENT ON SCHEMA face_store IS 'The store as the message storage document names it: messages. See docs/faces.md.';

CREATE FUNCTION face_store.pg_total_relation_size(text) RETURNS bigint LANGUAGE sql STABLE
RETURN sidestep.relation_size('store', $1);
COMMENT ON FUNCTION face_store.pg_total_relation_size IS 'As the catalog''s; of the view here, the size of what is behind it.';

-- Who is who: a private chat and a person go by their number, a group by its address.

CREATE FUNCTION face_store.number_of(p_jid text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_jid LIKE '%@s.whatsapp.net' THEN split_part(p_jid, '@', 1) ELSE p_jid END;
COMMENT ON FUNCTION face_store.number_of IS 'The digits of a number''s address; any other address as it is.';

CREATE FUNCTION face_store.address_of(p_who text, p_is_group boolean) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN p_who LIKE '%@%' THEN p_who WHEN p_is_group THEN p_who || '@g.us'
            ELSE coalesce(nullif(regexp_replace(p_who, '\D', '', 'g'), ''), p_who) || '@s.whatsapp.net' END;
COMMENT ON FUNCTION face_store.address_of IS 'The address of a number in any format, or of a group.';

-- What SQL has written about a message for which we have no column is in its metadata, under "record".
CREATE VIEW face_store.messages WITH (security_invoker = true) AS
SELECT sidestep.uuid_of(m.chat_id, m.id) AS id,
       coalesce(m.external_id, o.external_id, 'sidestep:' || m.id) AS message_id,
       CASE WHEN m.is_group THEN c.jid ELSE coalesce(p.phone, face_store.number_of(c.jid)) END AS context_id,
       CASE WHEN m.is_group THEN 'group' ELSE 'private' END AS context_type,
       d.word AS direction,
       CASE WHEN m.direction = 'outbound' THEN face_store.number_of(a.jid) ELSE coalesce(s.phone, s.lid) END AS sender,
       CASE WHEN m.direction = 'inbound' THEN face_store.number_of(a.jid)
            WHEN m.is_group THEN c.jid ELSE coalesce(p.phone, face_store.number_of(c.jid)) END AS recipient,
       m.text AS content, coalesce(m.media_url, f.url) AS media_url,
       CASE WHEN m.type IN ('image', 'video', 'audio', 'document', 'sticker') THEN m.type END AS media_type,
       f.mime AS media_content_type, CASE WHEN f.size_bytes <= 2147483647 THEN f.size_bytes END::integer AS media_size,
       CASE WHEN o.id IS NOT NULL THEN coalesce(w.word, o.status)
            ELSE coalesce(m.metadata #>> '{record,status}', CASE m.direction WHEN 'inbound' THEN 'delivered' ELSE 'sent' END) END AS status,
       coalesce(o.error, m.metadata #>> '{record,error}') AS error_message,
       coalesce(m.metadata - 'record', '{}') AS metadata,
       m.sent_at::timestamp AS created_at,
       coalesce(o.delivered_at, (m.metadata #>> '{record,delivered_at}')::timestamptz)::timestamp AS delivered_at,
       coalesce(o.read_at, (m.metadata #>> '{record,read_at}')::timestamptz)::timestamp AS read_at,
       sidestep.uuid_of(m.chat_id, coalesce(q.id, o.answers[cardinality(o.answers)])) AS reply_to_message_id,
       m.command IS NOT NULL OR coalesce((m.metadata #>> '{record,is_bot_command}')::boolean, false) AS is_bot_command,
       coalesce((m.metadata #>> '{record,is_admin_command}')::boolean,
                m.command IS NOT NULL AND (m.author = 'human' OR coalesce('+' || s.phone = ANY (t.admins), false))) AS is_admin_command,
       m.command AS command_name, m.deleted_at::timestamp AS deleted_at, m.deleted_at IS NOT NULL AS is_deleted
  FROM sidestep.messages m
  JOIN sidestep.tenants t ON t.tenant_id = m.tenant_id
  JOIN sidestep.chats c ON c.tenant_id = m.tenant_id AND c.chat_id = m.chat_id
  JOIN sidestep.accounts a ON a.tenant_id = c.tenant_id AND a.account_id = c.account_id
  JOIN sidestep.vocabulary d ON d.face = 'store' AND d.idea = 'direction' AND d.means = m.direction AND d.is_said
  LEFT JOIN sidestep.contacts p ON p.tenant_id = c.tenant_id AND p.contact_id = c.contact_id
  LEFT JOIN sidestep.contacts s ON s.tenant_id = m.tenant_id AND s.contact_id = m.sender_id
  LEFT JOIN sidestep.outbox o ON o.tenant_id = m.tenant_id AND o.chat_id = m.chat_id AND o.id = m.id
  LEFT JOIN sidestep.vocabulary w ON w.face = 'store' AND w.idea = 'status' AND w.means = o.status AND w.is_said
  LEFT JOIN sidestep.media_files f ON f.tenant_id = m.tenant_id AND f.chat_id = m.chat_id AND f.message_id = m.id AND f.ordinal = 0
  LEFT JOIN LATERAL (SELECT k.id FROM sidestep.message_keys k
                      WHERE k.tenant_id = m.tenant_id AND k.external_id = m.reply_to AND k.chat_id = m.chat_id ORDER BY k.id LIMIT 1) q ON true
 WHERE m.tenant_id = (SELECT sidestep.face_tenant()) AND m.type NOT IN ('edit', 'revoke');
COMMENT ON VIEW face_store.messages IS 'Every message, incoming and outgoing.';
ALTER VIEW face_store.messages ALTER COLUMN metadata SET DEFAULT '{}';
ALTER VIEW face_store.messages ALTER COLUMN created_at SET DEFAULT CURRENT_TIMESTAMP;
ALTER VIEW face_store.messages ALTER COLUMN is_bot_command SET DEFAULT false;
ALTER VIEW face_store.messages ALTER COLUMN is_admin_command SET DEFAULT false;
ALTER VIEW face_store.messages ALTER COLUMN is_deleted SET DEFAULT false;

CREATE FUNCTION face_store.check_words(p_type text, p_direction text, p_status text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF p_type NOT IN ('group', 'private') THEN
        RAISE EXCEPTION 'context_type is group or private, not "%"', p_type USING ERRCODE = 'check_violation', TABLE = 'messages', COLUMN = 'context_type';
    ELSIF p_direction NOT IN ('incoming', 'outgoing') THEN
        RAISE EXCEPTION 'direction is incoming or outgoing, not "%"', p_direction USING ERRCODE = 'check_violation', TABLE = 'messages', COLUMN = 'direction';
    ELSIF p_status NOT IN ('sent', 'delivered', 'read', 'failed', 'queued') THEN
        RAISE EXCEPTION 'status is sent, delivered, read, failed or queued, not "%"', p_status USING ERRCODE = 'check_violation', TABLE = 'messages', COLUMN = 'status';
    END IF;
END $$;
COMMENT ON FUNCTION face_store.check_words IS 'The document''s words, and no others.';

CREATE FUNCTION face_store.record_of(p_row face_store.messages) RETURNS jsonb LANGUAGE sql STABLE
RETURN jsonb_strip_nulls(jsonb_build_object('status', p_row.status, 'error', p_row.error_message, 'delivered_at', p_row.delivered_at::timestamptz,
    'read_at', p_row.read_at::timestamptz, 'is_bot_command', nullif(p_row.is_bot_command, false), 'is_admin_command', nullif(p_row.is_admin_command, false)));
COMMENT ON FUNCTION face_store.record_of IS 'What a row tells that has no column of ours, since the message is none of the bot''s.';

CREATE FUNCTION face_store.insert_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.meet_tenant();
    v_group boolean := NEW.context_type = 'group';
    v_from_me boolean := sidestep.hear('store', 'direction', NEW.direction) = 'outbound';
    v_chat bigint;
    v_id bigint;
    v_quoted text;
    v_type text := sidestep.hear('store', 'type', coalesce(NEW.media_type, 'text'));
BEGIN
    PERFORM sidestep.require('messages', to_jsonb(NEW), 'message_id', 'context_id', 'context_type', 'direction');
    PERFORM face_store.check_words(NEW.context_type, NEW.direction, NEW.status);
    v_chat := sidestep.meet_chat(v_tenant, 'whatsapp', face_store.address_of(NEW.context_id, v_group), v_group, NULL);
    IF NEW.reply_to_message_id IS NOT NULL THEN
        SELECT coalesce(m.external_id, o.external_id) INTO v_quoted
          FROM sidestep.message_of(NEW.reply_to_message_id) r
          JOIN sidestep.messages m ON m.tenant_id = v_tenant AND m.chat_id = r.chat_id AND m.id = r.id
          LEFT JOIN sidestep.outbox o ON o.tenant_id = v_tenant AND o.chat_id = r.chat_id AND o.id = r.id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no message %, to which this replies', NEW.reply_to_message_id
                USING ERRCODE = 'foreign_key_violation', TABLE = 'messages', COLUMN = 'reply_to_message_id';
        END IF;
    END IF;
    v_id := sidestep.write_message(
        v_tenant, v_chat, NEW.message_id, NEW.created_at, NEW.created_at, v_from_me, v_type, NEW.content, NEW.media_url,
        CASE WHEN v_group AND NOT v_from_me THEN sidestep.meet_sender(v_tenant, face_store.address_of(NEW.sender, false)) END, v_quoted, NEW.command_name,
        coalesce(NEW.metadata, '{}') || jsonb_build_object('record', face_store.record_of(NEW)), NULL, true);
    IF v_id IS NULL THEN
        RETURN NULL;
    END IF;
    v_chat := sidestep.chat_now(v_tenant, v_chat);
    IF NEW.media_url IS NOT NULL THEN
        PERFORM sidestep.know_media(v_tenant, v_chat, v_id, v_type, NEW.media_url, NEW.media_content_type, NEW.media_size, NULL, now());
    END IF;
    IF NEW.is_deleted OR NEW.deleted_at IS NOT NULL THEN
        PERFORM sidestep.apply_revoke(v_tenant, v_chat, v_id, NULL, coalesce(NEW.deleted_at::timestamptz, now()));
    END IF;
    NEW.id := sidestep.uuid_of(v_chat, v_id);
    NEW.status := coalesce(NEW.status, CASE WHEN v_from_me THEN 'sent' ELSE 'delivered' END);
    NEW.context_id := face_store.number_of(face_store.address_of(NEW.context_id, v_group));
    NEW.is_deleted := NEW.is_deleted OR NEW.deleted_at IS NOT NULL;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_store.insert_message IS 'A message that is here already changes nothing; none is sent, whatever its status says.';
CREATE TRIGGER insert_message INSTEAD OF INSERT ON face_store.messages FOR EACH ROW EXECUTE FUNCTION face_store.insert_message();

CREATE FUNCTION face_store.update_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_tenant bigint := sidestep.face_tenant();
    v_chat bigint;
    v_id bigint;
    v_at timestamptz := coalesce(NEW.read_at, NEW.delivered_at, now());
BEGIN
    PERFORM sidestep.refuse_change('messages', to_jsonb(OLD), to_jsonb(NEW), 'id', 'message_id', 'context_id', 'context_type', 'direction', 'sender',
        'recipient', 'content', 'media_url', 'media_type', 'media_content_type', 'media_size', 'created_at', 'reply_to_message_id', 'command_name');
    PERFORM face_store.check_words(NEW.context_type, NEW.direction, NEW.status);
    SELECT chat_id, id INTO v_chat, v_id FROM sidestep.message_of(OLD.id);
    IF NOT EXISTS (SELECT FROM sidestep.outbox WHERE tenant_id = v_tenant AND chat_id = v_chat AND id = v_id) THEN
        UPDATE sidestep.messages SET metadata = coalesce(NEW.metadata, '{}') || jsonb_build_object('record', face_store.record_of(NEW))
         WHERE tenant_id = v_tenant AND chat_id = v_chat AND id = v_id;
    ELSIF NEW.status IN ('sent', 'delivered', 'read') AND NEW.status <> OLD.status THEN
        PERFORM sidestep.forward(v_tenant, v_chat, v_id, NEW.status, v_at);
    ELSIF NEW.status = 'failed' AND OLD.status = 'queued' THEN
        UPDATE sidestep.outbox SET status = 'cancelled', due_at = NULL, error = coalesce(NEW.error_message, 'cancelled by SQL')
         WHERE tenant_id = v_tenant AND chat_id = v_chat AND id = v_id AND status = 'queued';
    END IF;
    IF (NEW.is_deleted OR NEW.deleted_at IS NOT NULL) AND NOT OLD.is_deleted THEN
        PERFORM sidestep.apply_revoke(v_tenant, v_chat, v_id, NULL, coalesce(NEW.deleted_at::timestamptz, now()));
    ELSIF OLD.is_deleted AND (NOT NEW.is_deleted OR NEW.deleted_at IS NULL) THEN
        UPDATE sidestep.messages SET deleted_at = NULL, deleted_by = NULL WHERE tenant_id = v_tenant AND chat_id = v_chat AND id = v_id;
    END IF;
    NEW.is_deleted := CASE WHEN OLD.is_deleted THEN NEW.is_deleted AND NEW.deleted_at IS NOT NULL ELSE NEW.is_deleted OR NEW.deleted_at IS NOT NULL END;
    NEW.deleted_at := CASE WHEN NEW.is_deleted THEN coalesce(NEW.deleted_at, now()) END;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION face_store.update_message IS 'A status moves forward, a message is soft-deleted or brought back; what was said stands.';
CREATE TRIGGER update_message INSTEAD OF UPDATE ON face_store.messages FOR EACH ROW EXECUTE FUNCTION face_store.update_message();

CREATE FUNCTION face_store.delete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sidestep.remove_message(sidestep.face_tenant(), r.chat_id, r.id) FROM sidestep.message_of(OLD.id) r;
    RETURN OLD;
END $$;
COMMENT ON FUNCTION face_store.delete_message IS 'The hard delete.';
CREATE TRIGGER delete_message INSTEAD OF DELETE ON face_store.messages FOR EACH ROW EXECUTE FUNCTION face_store.delete_message();

SELECT sidestep.wall_off();
