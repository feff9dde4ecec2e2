//! `providers.*.oidc.exchange`: whether a provider may be asked to exchange anything, held against the exchanges there are.

use crate::config::compile::context::Context;
use crate::config::raw::RawConfig;
use crate::exchange::settings::Settings;
use crate::exchange::settings::Way;

pub(super) fn look(context: &mut Context<'_>, raw: &RawConfig, exchanges: &[Settings]) {
    let providers = raw.providers.get().into_iter();
    for (name, provider) in providers.flat_map(|named| named.readable()) {
        let Some(switch) = provider.oidc.get().and_then(|oidc| oidc.exchange.get()) else {
            continue;
        };
        let enabled = switch
            .enabled
            .required(switch.mark, "enabled", &mut context.report);
        let Some(enabled) = enabled else {
            continue;
        };
        let asks = |exchange: &&Settings| match &exchange.way {
            Way::TokenExchange(remote) | Way::Assertion(remote, _) => {
                remote.provider.as_str() == name.value
            }
            Way::Mint(_) => false,
        };
        let asking = exchanges.iter().find(asks);
        match (enabled.value, asking) {
            (true, Some(_)) | (false, None) => {}
            (false, Some(exchange)) => {
                context
                    .report
                    .error(
                        enabled.mark,
                        format!(
                            "`exchange.{}` asks for what is switched off here",
                            exchange.name
                        ),
                    )
                    .hint("`enabled: true`, or no such exchange");
            }
            // One that could not be read may be the one.
            (true, None) if context.report.refuses() => {}
            (true, None) => {
                context
                    .report
                    .error(
                        enabled.mark,
                        format!("nothing is exchanged at `{}`: no `exchange` asks there", name.value),
                    )
                    .hint("`exchange: { NAME: { token_exchange: { provider: … } } }`, or `assertion`, says what is exchanged");
            }
        }
    }
}
