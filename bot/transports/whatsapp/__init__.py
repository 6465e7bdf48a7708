"""WhatsApp through neonize: who connects, how it is translated, who is who; nothing of chats or flows."""
