//! Client certificates: who is asked for one, and who says which one a client has.

use crate::config::compile::address::host;
use crate::config::compile::address::trusted;
use crate::config::compile::context::Context;
use crate::config::compile::providers::Kind;
use crate::config::compile::tokens::own_issuer;
use crate::config::raw::CertificateHeaderWord;
use crate::config::raw::CertificateNameWord;
use crate::config::raw::ClientCertificateMode;
use crate::config::raw::RawCertificateHeaders;
use crate::config::raw::RawClientCert;
use crate::config::raw::RawTls;
use crate::config::shape::Field;
use crate::providers::Owns;
use crate::providers::settings;
use crate::providers::settings::CertificateName;
use crate::providers::settings::KindSettings;
use crate::proxy::settings::CertificateHeader;
use crate::proxy::settings::CertificateHeaders;
use crate::proxy::settings::ClientCertificates;

/// Who is asked for a client certificate.
pub(super) fn client_certificates(
    context: &mut Context<'_>,
    raw: &RawTls,
) -> Vec<ClientCertificates> {
    let mut all = Vec::new();
    let mut taken: Vec<Box<str>> = Vec::new();
    let mut rest = None;
    let list = raw.client_certificates.get();
    if raw.client_ca.mark().is_some() {
        if let Some(list) = list {
            context.report.error(
                list.mark,
                "either `client_ca` or `client_certificates`, not both",
            );
        }
        let ca = context.pem(&raw.client_ca, "the authorities", "CERTIFICATE");
        let everybody = ca.map(|ca| ClientCertificates {
            hosts: Vec::new(),
            ca,
            required: true,
        });
        return everybody.into_iter().collect();
    }
    for raw in list.map_or(&[][..], |list| &list.items) {
        raw.ca.required(raw.mark, "ca", &mut context.report);
        let ca = context.pem(&raw.ca, "the authorities", "CERTIFICATE");
        let mut hosts = Vec::new();
        for at in raw.hosts.get().map_or(&[][..], |list| &list.items) {
            let Some(host) = host(context, at, true) else {
                continue;
            };
            if taken.contains(&host) {
                let said = context.report.error(at.mark, "stands here twice");
                said.value(&host);
            }
            taken.push(host.clone());
            hosts.push(host);
        }
        if raw.hosts.is_absent() && rest.replace(raw.mark).is_some() {
            context
                .report
                .error(raw.mark, "a second policy for every other name")
                .hint("only one item may have no `hosts`");
        }
        let required = match raw.mode.or(ClientCertificateMode::Required) {
            ClientCertificateMode::Required => true,
            ClientCertificateMode::Optional => false,
        };
        all.extend(ca.map(|ca| ClientCertificates {
            hosts,
            ca,
            required,
        }));
    }
    all
}

/// Who says which certificate a client has.
pub(super) fn certificate_headers(
    context: &mut Context<'_>,
    raw: &Field<RawCertificateHeaders>,
) -> Option<CertificateHeaders> {
    let raw = raw.get()?;
    raw.from.required(raw.mark, "from", &mut context.report);
    Some(CertificateHeaders {
        from: trusted(context, &raw.from, "`certificate_headers`"),
        format: match raw.format.or(CertificateHeaderWord::ClientCert) {
            CertificateHeaderWord::ClientCert => CertificateHeader::ClientCert,
            CertificateHeaderWord::Xfcc => CertificateHeader::Xfcc,
        },
    })
}

/// Certificates of TLS clients as a kind of provider.
pub(super) fn client_cert(
    context: &mut Context<'_>,
    name: &str,
    raw: &RawClientCert,
) -> Option<Kind> {
    raw.ca.required(raw.mark, "ca", &mut context.report);
    let ca = context.pem(&raw.ca, "the authorities", "CERTIFICATE");
    let subject = raw
        .subject
        .required(raw.mark, "subject", &mut context.report);
    let subject = match subject?.value {
        CertificateNameWord::Dns => CertificateName::Dns,
        CertificateNameWord::Uri => CertificateName::Uri,
        CertificateNameWord::Email => CertificateName::Email,
        CertificateNameWord::CommonName => CertificateName::CommonName,
    };
    Some(Kind {
        owns: Owns {
            client_cert: true,
            ..Owns::default()
        },
        mark: raw.mark,
        timeout: None,
        settings: KindSettings::ClientCert(settings::ClientCert {
            issuer: own_issuer(name, &raw.issuer),
            ca: ca?,
            subject,
        }),
    })
}
