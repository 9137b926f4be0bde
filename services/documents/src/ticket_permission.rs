//! The permissions in a ticket.

macro_rules! words {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $word_doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[doc = $word_doc])+ $variant,)+
        }

        impl $name {
            /// All of them, in the order of their words.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word in a ticket.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            pub(crate) fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

words! {
    /// What a participant may be allowed. In the order of the words, as they stand in a ticket.
    TicketPermission {
        /// It may administer the room.
        Admin = "admin",
        /// It is an agent.
        Agent = "agent",
        /// It may send data messages.
        Data = "data",
        /// It may change its own name, metadata and attributes.
        Metadata = "metadata",
        /// It may publish tracks.
        Publish = "publish",
        /// It may subscribe to tracks.
        Subscribe = "subscribe",
    }
}

words! {
    /// A source of tracks that a participant may publish, with the word of LiveKit's tokens.
    TicketSource {
        /// A camera.
        Camera = "camera",
        /// A microphone.
        Microphone = "microphone",
        /// A shared screen.
        ScreenShare = "screen_share",
        /// The audio of a shared screen.
        ScreenShareAudio = "screen_share_audio",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_read_as_they_were_written_and_ascend() {
        assert!(TicketPermission::ALL.is_sorted_by(|a, b| a.as_str() < b.as_str() && a < b));
        assert!(TicketSource::ALL.is_sorted_by(|a, b| a.as_str() < b.as_str() && a < b));
        for permission in TicketPermission::ALL {
            assert_eq!(TicketPermission::parse(permission.as_str()), Some(*permission));
        }
        assert_eq!(TicketSource::parse("all"), None);
    }
}
