//! Greetings of the past.

use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::run::Course;
use crate::wire::Wire;

/// None may be answered with a ServerHello.
pub(super) async fn old_tls(wire: &Wire, course: &mut Course) {
    let suites: [(&str, u16, &[u16]); 6] = [
        ("SSLv3", 0x0300, &[0x002f, 0x0035]),
        ("TLS 1.0", 0x0301, &[0x002f, 0xc013]),
        ("TLS 1.1", 0x0302, &[0x002f, 0xc013]),
        ("RC4", 0x0303, &[0x0005, 0xc011]),
        ("3DES", 0x0303, &[0x000a, 0xc012]),
        ("export", 0x0303, &[0x0003, 0x0008]),
    ];
    for (name, version, suites) in suites {
        let mut hello = version.to_be_bytes().to_vec();
        hello.extend([7; 32]);
        hello.push(0);
        hello.extend(((suites.len() * 2) as u16).to_be_bytes());
        hello.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
        hello.extend([1, 0]);
        // server_name app.test, supported_groups, signature_algorithms
        let mut extensions = vec![0, 0, 0, 13, 0, 11, 0, 0, 8];
        extensions.extend(b"app.test");
        extensions.extend([0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 6, 0, 4, 4, 3, 4, 1]);
        if version != 0x0300 {
            hello.extend((extensions.len() as u16).to_be_bytes());
            hello.extend(extensions);
        }
        let mut message = vec![1, 0];
        message.extend((hello.len() as u16).to_be_bytes());
        message.extend(hello);
        let mut record = vec![22, 3, u8::from(version != 0x0300)];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        let plain = Wire {
            to: wire.to,
            tls: None,
        };
        let Ok(mut stream) = plain.connect(b"").await else {
            continue;
        };
        let mut first = [0; 1];
        drop(stream.write_all(&record).await);
        match timeout(Duration::from_secs(3), stream.read(&mut first)).await {
            Ok(Ok(1)) if first == [22] => course
                .findings
                .push(format!("{name} was answered with a handshake")),
            Err(_) => course
                .findings
                .push(format!("{name} was not answered at all")),
            Ok(_) => {}
        }
    }
}
