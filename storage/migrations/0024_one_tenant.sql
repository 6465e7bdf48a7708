-- migrate:up
-- What faces need whose documents know one business only, and ids that are UUIDs.

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
