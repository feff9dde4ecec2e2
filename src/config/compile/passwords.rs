//! `basic: migrate` and `carry_over: [credential]`: which passwords move, and whether everything is there that they need.

use crate::config::compile::context::Context;
use crate::config::compile::probe;
use crate::config::compile::providers::Provider;
use crate::config::compile::rollouts::Either;
use crate::config::compile::rollouts::all;
use crate::config::raw::BasicWord;
use crate::config::raw::CarryOverWord;
use crate::config::raw::ModeWord;
use crate::config::raw::RawAccept;
use crate::config::raw::RawConfig;
use crate::config::raw::RawProvisioning;
use crate::config::raw::StoreWord;
use crate::config::settings::Canonical;
use crate::config::shape::Field;
use crate::config::shape::Named;
use crate::config::tree::Mark;
use crate::identity::ProviderId;
use crate::providers::settings::KindSettings;
use crate::providers::settings::OidcDirectory;
use crate::providers::settings::Provisioning;
use crate::rollout::BasicPolicy;
use crate::rollout::Course;
use crate::rollout::Mode;
use crate::rollout::Passwords;
use crate::rollout::Stage;

/// Who has passwords that can move.
const JUDGES: &str = "`ldap`, `basic`, and a `session_probe` with `owns.basic` judge passwords; one with `upstream_form.fields` has a form that does";

/// Marks the stages in which passwords move or have moved, and prepares the providers that they move to.
pub(super) fn compile(
    context: &mut Context<'_>,
    raw: &RawConfig,
    (providers, courses): (&mut [Provider], &mut [Course]),
    canonical: Option<&Canonical>,
) {
    let carried = carried(raw);
    let (mut used, mut read) = (Vec::new(), Vec::new());
    let mut any = false;
    for rollout in all(raw) {
        let (Some(from), Some(to)) = (rollout.from.get(), rollout.to.get()) else {
            continue;
        };
        let judges = providers
            .iter()
            .find(|provider| provider.name.value == from.value)
            .is_none_or(|provider| provider.passwords || form_of(raw, &from.value).is_some());
        let said = said(context, raw, &rollout, (&from.value, judges));
        any |= judges || said.is_some();
        let Some(mark) = said.or(carried).filter(|_| judges) else {
            continue;
        };
        let pair = (from.value.as_str(), to.value.as_str());
        read.push(from.value.clone());
        stored(context, raw, mark);
        if let Some(provisioning) = provisioning(context, raw, mark, pair, providers, canonical) {
            used.push(to.value.clone());
            let to = providers.iter_mut();
            let mut to = to.filter(|provider| provider.name.value == pair.1);
            let settings = to.next().and_then(|provider| provider.settings.as_mut());
            if let Some(KindSettings::Oidc(oidc)) = settings.map(|settings| &mut settings.kind) {
                oidc.provisioning = Some(provisioning);
            }
        }
        for course in courses.iter_mut() {
            if course.id.as_str() == rollout.name {
                for leg in &mut course.legs {
                    leg.stage.passwords = passwords(&leg.stage, &course.from, carried.is_some());
                }
            }
        }
    }
    if let (Some(mark), false) = (carried, any) {
        context
            .report
            .error(
                mark,
                "no rollout leaves a provider that judges passwords: none can move",
            )
            .hint(JUDGES);
    }
    idle(context, raw, (&used, &read));
}

/// Where `carry_over: [credential]` stands.
fn carried(raw: &RawConfig) -> Option<Mark> {
    let list = raw.sessions.get()?.carry_over.get()?;
    let mut words = list.items.iter();
    let word = words.find(|word| matches!(word.value, CarryOverWord::Credential));
    word.map(|word| word.mark)
}

/// Where a rollout says that passwords move, once what makes no sense is reported.
fn said(
    context: &mut Context<'_>,
    raw: &RawConfig,
    rollout: &Either<'_>,
    (from, judges): (&str, bool),
) -> Option<Mark> {
    let short = raw
        .rollout
        .get()
        .filter(|short| short.mark.id == rollout.mark.id);
    let staged = raw.rollouts.get().into_iter();
    let staged = staged.flat_map(|named| named.readable());
    let staged = staged
        .filter(|(_, staged)| staged.mark.id == rollout.mark.id)
        .filter_map(|(_, staged)| staged.stages.get())
        .flat_map(|list| &list.items)
        .map(|stage| (&stage.accept, stage.mode.get().map(|mode| mode.value)));
    let short = short.map(|short| (&short.accept, Some(ModeWord::Canary)));
    let mut found = None;
    for (accept, mode) in short.into_iter().chain(staged) {
        for (name, mark) in migrating(accept) {
            found = found.or(Some(mark));
            if name != from {
                let what = format!("passwords move away from `{from}`, and not from `{name}`");
                context.report.error(mark, what);
            } else if !judges {
                context
                    .report
                    .error(mark, format!("`{from}` judges no passwords: none can move"))
                    .hint(JUDGES);
            } else if let Some(ModeWord::LegacyOnly | ModeWord::Shadow | ModeWord::ModernOnly) =
                mode
            {
                context
                    .report
                    .error(mark, "in this mode no password can move")
                    .hint("`canary` and `modern-primary` have people of both sides");
            }
        }
    }
    found
}

fn migrating(accept: &Field<Named<RawAccept>>) -> impl Iterator<Item = (&str, Mark)> {
    let named = accept.get().into_iter().flat_map(|named| named.readable());
    named.filter_map(|(name, accept)| {
        let basic = accept.basic.get()?;
        (basic.value == BasicWord::Migrate).then_some((name.value.as_str(), basic.mark))
    })
}

/// A password that has moved must not be judged where it was because of a restart.
fn stored(context: &mut Context<'_>, raw: &RawConfig, mark: Mark) {
    let sessions = raw.sessions.get();
    let store = sessions.map(|sessions| sessions.store.or(StoreWord::Embedded));
    if store == Some(StoreWord::Memory) {
        context
            .report
            .error(
                mark,
                "with `store: memory` nobody knows after a restart whose password has moved",
            )
            .hint("`embedded` or `redis`");
    }
}

/// What the provider needs that passwords move to.
fn provisioning(
    context: &mut Context<'_>,
    raw: &RawConfig,
    mark: Mark,
    (from, to): (&str, &str),
    providers: &[Provider],
    canonical: Option<&Canonical>,
) -> Option<Provisioning> {
    let named = |name: &str| {
        let mut all = providers.iter();
        all.find(|provider| provider.name.value == name)
    };
    let Some(canonical) = canonical else {
        if raw.identity.is_absent() {
            context
                .report
                .error(
                    mark,
                    "nobody is joined, so no account at `to` is known to be anybody's",
                )
                .hint("`identity.canonical` says who is one person");
        }
        return None;
    };
    for side in [from, to] {
        if !canonical.authoritative.contains(&ProviderId::new(side))
            && named(side).is_some_and(|provider| !provider.words.partial)
        {
            context.report.error(
                mark,
                format!(
                    "the people of `{side}` are not joined: nobody knows whose account is whose"
                ),
            );
        }
    }
    let mut attributes = canonical.template.roots();
    let (Some(by), None) = (attributes.next(), attributes.next()) else {
        context
            .report
            .error(
                mark,
                "people are looked up by one attribute, and `identity.canonical` has several",
            )
            .hint("such as `hr:{employee_id}`");
        return None;
    };
    // What could not be read has been reported.
    let settings = named(to)?.settings.as_ref()?;
    let KindSettings::Oidc(oidc) = &settings.kind else {
        context.report.error(
            mark,
            format!("passwords cannot move to `{to}`: it is no `oidc` provider"),
        );
        return None;
    };
    if oidc.client.is_none() {
        context
            .report
            .error(mark, format!("`{to}` cannot be asked about passwords: it has no `client`"))
            .hint("the `client` must be allowed the resource owner password grant there (Keycloak: Direct access grants)");
    }
    let Some(directory) = &oidc.directory else {
        context
            .report
            .error(
                mark,
                format!("nobody can be looked up at `{to}`: it has no `directory`"),
            )
            .hint("`directory: { keycloak: … }` or `directory: { scim: … }`");
        return None;
    };
    let own = raw.providers.get().into_iter();
    let mut own = own.flat_map(|named| named.readable());
    let own = own.find(|(name, _)| name.value == to);
    let own = own.and_then(|(_, provider)| provider.oidc.get()?.provisioning.get());
    let defaults: &[(&str, &str)] = match directory {
        OidcDirectory::Keycloak(_) => &[
            ("email", "email"),
            ("firstName", "given_name"),
            ("lastName", "family_name"),
        ],
        OidcDirectory::Scim(_) => &[
            ("emails", "email"),
            ("name.givenName", "given_name"),
            ("name.familyName", "family_name"),
        ],
        OidcDirectory::UserInfo(_) => {
            context
                .report
                .error(
                    mark,
                    format!("nobody gets an account at `{to}`: its `directory` is only read"),
                )
                .hint("`directory: { keycloak: … }` or `directory: { scim: … }`");
            return None;
        }
    };
    let attributes = match own.and_then(|own| own.attributes.get()) {
        None => defaults
            .iter()
            .map(|(theirs, ours)| ((*theirs).into(), (*ours).into()))
            .collect(),
        Some(named_attributes) => {
            let words = named(from).map(|provider| &provider.words);
            let mut attributes = Vec::new();
            for (theirs, ours) in named_attributes.readable() {
                let known = words.is_none_or(|words| {
                    words.partial || ours.value == "subject" || words.source(&ours.value).is_some()
                });
                if !known {
                    context
                        .report
                        .error(ours.mark, format!("`{from}` maps no `{}`", ours.value))
                        .value(&ours.value)
                        .hint(
                            "an attribute of ours, from `claims` of the provider that people leave",
                        );
                }
                attributes.push((theirs.value.as_str().into(), ours.value.as_str().into()));
            }
            attributes
        }
    };
    Some(Provisioning {
        by: by.into(),
        normalise: canonical.normalise.clone(),
        create: own.is_none_or(|own: &RawProvisioning| own.create.or(true)),
        attributes,
    })
}

/// Words about accounts that nobody will get, and about forms that nobody reads.
fn idle(context: &mut Context<'_>, raw: &RawConfig, (used, read): (&[String], &[String])) {
    let providers = raw.providers.get().into_iter();
    for (name, provider) in providers.flat_map(|named| named.readable()) {
        let given = provider.oidc.get().and_then(|oidc| oidc.provisioning.get());
        let accounts = given
            .map(|own| own.mark)
            .filter(|_| !used.contains(&name.value));
        let form = form_of(raw, &name.value).filter(|_| !read.contains(&name.value));
        let what = [
            (accounts, "no password moves here: this has no effect"),
            (form, "no password moves from here: this has no effect"),
        ];
        for (mark, what) in what {
            if let Some(mark) = mark.filter(|_| !context.report.refuses()) {
                context
                    .report
                    .warning(mark, what)
                    .hint("`basic: migrate` in a stage, or `carry_over: [credential]`");
            }
        }
    }
}

/// Where it says how passwords are read that are typed into the form of an old application.
fn form_of(raw: &RawConfig, provider: &str) -> Option<Mark> {
    let providers = raw.providers.get()?;
    let mut all = providers.readable();
    let (_, provider) = all.find(|(name, _)| name.value == provider)?;
    let form = probe::form(provider.session_probe.get()?)?;
    form.fields.get().map(|fields| fields.mark)
}

/// Who judges passwords in a stage of a rollout in which they move.
fn passwords(stage: &Stage, from: &ProviderId, carried: bool) -> Passwords {
    let mut rules = stage.accept.iter().filter(|rules| rules.provider == *from);
    let said = rules.next().map(|rules| rules.basic);
    let moves = match (stage.mode, said) {
        (Mode::LegacyOnly | Mode::Shadow | Mode::ModernOnly, _) => false,
        (Mode::Canary | Mode::ModernPrimary, Some(BasicPolicy::Migrate)) => true,
        (Mode::Canary | Mode::ModernPrimary, Some(BasicPolicy::Refuse)) => false,
        (Mode::Canary | Mode::ModernPrimary, Some(BasicPolicy::Accept) | None) => carried,
    };
    if moves {
        Passwords::Moving
    } else {
        Passwords::Kept
    }
}
