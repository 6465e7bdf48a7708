-- migrate:up
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
