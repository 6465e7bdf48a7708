-- migrate:up
-- People as another system knows them, and who of them a contact is: by the number, in whatever format they were written down.

CREATE TABLE sidestep.people (
    tenant_id bigint NOT NULL REFERENCES sidestep.tenants,
    person_id uuid NOT NULL DEFAULT gen_random_uuid(),
    name text,
    phone text,
    number text,
    username text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, person_id)
);
CREATE INDEX people_number ON sidestep.people (tenant_id, number) WHERE number IS NOT NULL;
CREATE INDEX people_username ON sidestep.people (tenant_id, lower(ltrim(username, '@'))) WHERE username IS NOT NULL;
CREATE INDEX people_unread ON sidestep.people (tenant_id, person_id) WHERE number IS NULL AND phone IS NOT NULL;
COMMENT ON TABLE sidestep.people IS 'People whom another system has written down, such as a CRM; contacts are those who have written here.';
COMMENT ON COLUMN sidestep.people.tenant_id IS 'Who knows this person.';
COMMENT ON COLUMN sidestep.people.person_id IS 'The other system''s, or made here.';
COMMENT ON COLUMN sidestep.people.name IS 'What they are called there.';
COMMENT ON COLUMN sidestep.people.phone IS 'Their number as it was written down, in any format.';
COMMENT ON COLUMN sidestep.people.number IS 'Digits of that number, country code first, without "+". Null: the daemon has yet to read it; empty: it is none.';
COMMENT ON COLUMN sidestep.people.username IS 'What they go by on platforms that know no numbers; an address of mail is one, too.';
COMMENT ON COLUMN sidestep.people.created_at IS 'When they were written down.';
COMMENT ON COLUMN sidestep.people.updated_at IS 'When a column last changed.';

ALTER TABLE sidestep.contacts ADD COLUMN person_id uuid,
    ADD FOREIGN KEY (tenant_id, person_id) REFERENCES sidestep.people ON DELETE SET NULL (person_id);
CREATE INDEX contacts_person ON sidestep.contacts (tenant_id, person_id) WHERE person_id IS NOT NULL;
COMMENT ON COLUMN sidestep.contacts.person_id IS 'Who of the people this is: told by the number or the username, or linked by hand. Null: nobody knows.';

CREATE FUNCTION sidestep.number_variants(p_number text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    -- Numbers of mobile phones that people and WhatsApp write in two ways: with and without a sign behind the country code.
    WHEN p_number ~ '^55\d{2}9\d{8}$' THEN ARRAY[p_number, overlay(p_number PLACING '' FROM 5 FOR 1)]
    WHEN p_number ~ '^55\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '9' FROM 5 FOR 0)]
    WHEN p_number ~ '^(521|549)\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '' FROM 3 FOR 1)]
    WHEN p_number ~ '^52\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '1' FROM 3 FOR 0)]
    WHEN p_number ~ '^54\d{10}$' THEN ARRAY[p_number, overlay(p_number PLACING '9' FROM 3 FOR 0)]
    WHEN p_number <> '' THEN ARRAY[p_number]
    ELSE '{}' END;
COMMENT ON FUNCTION sidestep.number_variants IS 'The digits of a number, and where its country writes it in two ways, the other one.';

CREATE FUNCTION sidestep.username_of(p_jid text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substring(p_jid FROM '^(.+)@(?:telegram|email|discord|signal|wechat)$');
COMMENT ON FUNCTION sidestep.username_of IS 'The username in an address of a platform that knows no numbers; null: it is another''s.';

CREATE FUNCTION sidestep.person_of(p_tenant bigint, p_phone text, p_jid text) RETURNS uuid LANGUAGE sql STABLE
RETURN coalesce(
    (SELECT p.person_id FROM sidestep.people p WHERE p.tenant_id = p_tenant AND p.number = ANY (sidestep.number_variants(p_phone))
      ORDER BY p.created_at, p.person_id LIMIT 1),
    (SELECT p.person_id FROM sidestep.people p WHERE p.tenant_id = p_tenant AND lower(ltrim(p.username, '@')) = lower(sidestep.username_of(p_jid))
      ORDER BY p.created_at, p.person_id LIMIT 1));
COMMENT ON FUNCTION sidestep.person_of IS 'Who of the people has this number or this username; of several the one who was written down first.';

CREATE FUNCTION sidestep.match_contact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR (NEW.phone, NEW.jid) IS DISTINCT FROM (OLD.phone, OLD.jid) THEN
        NEW.person_id := sidestep.person_of(NEW.tenant_id, NEW.phone, NEW.jid);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION sidestep.match_contact IS 'A contact who is new, or whose number has only now become known, may be one of the people. Who was linked stays so.';
CREATE TRIGGER match_contact BEFORE INSERT OR UPDATE OF phone, jid ON sidestep.contacts
    FOR EACH ROW WHEN (NEW.person_id IS NULL) EXECUTE FUNCTION sidestep.match_contact();

CREATE FUNCTION sidestep.read_phone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Without its country code, or with what is left out abroad, it takes to know how numbers are written: the daemon does.
    NEW.number := CASE WHEN NEW.phone ~ '^\s*(\+|00)[\s\d()./-]+$' AND strpos(NEW.phone, '(0)') = 0 THEN regexp_replace(NEW.phone, '^\s*00|\D', '', 'g') END;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION sidestep.read_phone IS 'Reads a number that has its country code with it.';
CREATE TRIGGER read_phone BEFORE INSERT OR UPDATE OF phone ON sidestep.people FOR EACH ROW EXECUTE FUNCTION sidestep.read_phone();

CREATE FUNCTION sidestep.match_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sidestep.contacts c SET person_id = NEW.person_id, updated_at = NEW.updated_at
     WHERE c.tenant_id = NEW.tenant_id AND c.person_id IS NULL
       AND (c.phone = ANY (sidestep.number_variants(NEW.number)) OR c.jid = ANY (ARRAY(
            SELECT lower(ltrim(NEW.username, '@')) || '@' || x FROM unnest(ARRAY['telegram', 'email', 'discord', 'signal', 'wechat']) x)));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION sidestep.match_person IS 'Somebody who was written down may have written here already. Contacts who are linked stay so.';
CREATE TRIGGER match_person AFTER INSERT OR UPDATE OF phone, number, username ON sidestep.people
    FOR EACH ROW EXECUTE FUNCTION sidestep.match_person();

-- As in 0002, but that the one who stays is who either of them was.
CREATE OR REPLACE FUNCTION sidestep.merge_contacts(p_tenant bigint, p_keep bigint, p_gone bigint, p_now timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_gone sidestep.contacts;
BEGIN
    -- By chat and by group, which have indexes; by sender alone it would read every message of the tenant.
    UPDATE sidestep.messages SET sender_id = p_keep
     WHERE tenant_id = p_tenant AND sender_id = p_gone
       AND chat_id IN (SELECT chat_id FROM sidestep.chats WHERE tenant_id = p_tenant AND contact_id IN (p_keep, p_gone));
    UPDATE sidestep.messages SET sender_id = p_keep WHERE tenant_id = p_tenant AND sender_id = p_gone AND is_group;
    UPDATE sidestep.chats SET contact_id = p_keep, updated_at = p_now WHERE tenant_id = p_tenant AND contact_id = p_gone;
    -- A key that the other one already has stays behind: the same message, seen under both addresses.
    UPDATE sidestep.message_keys k SET sender_id = p_keep
     WHERE k.tenant_id = p_tenant AND k.sender_id = p_gone AND k.sender_id <> 0
       AND NOT EXISTS (SELECT FROM sidestep.message_keys o
                        WHERE (o.tenant_id, o.external_id, o.chat_id, o.from_me, o.sender_id)
                            = (k.tenant_id, k.external_id, k.chat_id, k.from_me, p_keep));
    -- Of what both have shown at one message the later one stands.
    DELETE FROM sidestep.reactions r USING sidestep.reactions o
     WHERE r.tenant_id = p_tenant AND r.sender_id IN (p_keep, p_gone) AND o.tenant_id = p_tenant AND o.sender_id IN (p_keep, p_gone)
       AND (r.chat_id, r.id, r.from_me) = (o.chat_id, o.id, o.from_me) AND (r.reacted_at, r.reaction_id) < (o.reacted_at, o.reaction_id);
    UPDATE sidestep.reactions SET sender_id = p_keep WHERE tenant_id = p_tenant AND sender_id = p_gone;
    DELETE FROM sidestep.contacts WHERE tenant_id = p_tenant AND contact_id = p_gone RETURNING * INTO v_gone;
    UPDATE sidestep.contacts
       SET jid = coalesce(jid, v_gone.jid), lid = coalesce(lid, v_gone.lid), phone = coalesce(phone, v_gone.phone),
           push_name = coalesce(push_name, v_gone.push_name), person_id = coalesce(person_id, v_gone.person_id), updated_at = p_now
     WHERE tenant_id = p_tenant AND contact_id = p_keep;
    -- What the one wrote is the other's to change.
    PERFORM sidestep.apply_changes(p_tenant, array_agg(e.chat_id), array_agg(e.external_id))
       FROM sidestep.early_changes e JOIN sidestep.messages m ON (m.tenant_id, m.chat_id, m.id) = (e.tenant_id, e.chat_id, e.id)
      WHERE e.tenant_id = p_tenant AND m.sender_id = p_keep HAVING count(*) > 0;
END $$;

SELECT sidestep.wall_off();
