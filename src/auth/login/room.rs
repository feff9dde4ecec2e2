//! Room for one more login under way: a bounded number of cookies, of bounded size.

use http::HeaderValue;

use crate::auth::cookies;
use crate::auth::cookies::Keep;
use crate::auth::cookies::Sent;
use crate::auth::login::Ask;
use crate::auth::login::Logins;
use crate::auth::login::flow;
use crate::auth::login::flow::Flow;
use crate::auth::login::start::Begin;

impl Logins {
    /// A slot for one more login under way, and the cookies that make room for it.
    pub(super) fn make_room(
        &self,
        ask: &Ask<'_>,
        flow: &Flow,
        used: Option<u8>,
    ) -> (u8, Vec<HeaderValue>) {
        let ring = self.ring();
        let authority = ask.request.authority;
        let mut kept: Vec<(u8, Flow, usize)> = Vec::new();
        let mut gone: Vec<u8> = Vec::new();
        for slot in 0..flow::SLOTS {
            let name = self.names.flow(slot);
            let sent = cookies::named(ask.request.headers, &name);
            let open = sent
                .text()
                .and_then(|text| Some((Flow::open(&ring, authority, slot, text)?, text.len())))
                .filter(|(flow, _)| !flow.is_over(ask.now) && used != Some(slot));
            match (sent, open) {
                (Sent::None, _) => {}
                (_, Some((flow, length))) => kept.push((slot, flow, length + name.len() + 3)),
                (Sent::Once(_) | Sent::Several, None) => gone.push(slot),
            }
        }
        // The newest first, as many as fit beside the new one.
        kept.sort_by_key(|(_, flow, _)| std::cmp::Reverse(flow.began()));
        let sealed = flow.seal(&ring, authority, 0, &*self.deps.entropy);
        let mut bytes = sealed.map_or(0, |sealed| sealed.len() + self.names.flow(0).len() + 3);
        let mut stay = Vec::new();
        for (slot, _, length) in kept {
            bytes += length;
            let room = bytes <= flow::MAX_COOKIE_BYTES && stay.len() + 1 < usize::from(flow::SLOTS);
            if room {
                stay.push(slot);
            } else {
                gone.push(slot);
            }
        }
        // Any free slot will do; a random one, so that pages opened at the same moment rarely meet.
        let free: Vec<u8> = (0..flow::SLOTS)
            .filter(|slot| !stay.contains(slot))
            .collect();
        let mut dice = [0; 1];
        self.deps.entropy.fill(&mut dice);
        let [dice] = dice;
        let place = usize::from(dice).checked_rem(free.len()).unwrap_or(0);
        let slot = free.get(place).copied().unwrap_or(0);
        let forget = gone
            .into_iter()
            .filter(|other| *other != slot)
            .filter_map(|slot| self.names.set(&self.names.flow(slot), "", Keep::Forget))
            .collect();
        (slot, forget)
    }

    /// Has the browser forget the record of a login that is over, where no other takes its slot.
    pub(super) fn forget_used(&self, begin: &Begin) -> Option<HeaderValue> {
        let name = self.names.flow(begin.used?);
        self.names.set(&name, "", Keep::Forget)
    }
}
