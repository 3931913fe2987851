//! SCRAM (RFC 5802, RFC 7677), the client's side: messages in, messages out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::{Digest, KeyInit};
use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha512};

/// RFC 7677 requires as many; Kafka accepts no fewer.
const LEAST_ITERATIONS: u32 = 4_096;
/// A server that asks for more costs the client seconds of computation for nothing.
const MOST_ITERATIONS: u32 = 1_000_000;

/// The hash that a mechanism uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The keyed hash; `None` when the key cannot be one.
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        fn with<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Option<Vec<u8>> {
            let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
            mac.update(data);
            Some(mac.finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha256 => with::<Hmac<Sha256>>(key, data),
            Self::Sha512 => with::<Hmac<Sha512>>(key, data),
        }
    }

    /// The hash.
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// Kafka's number of its mechanism (KIP-554).
    pub fn number(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The one of that number.
    pub fn of(number: i8) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|hash| hash.number() == number)
    }

    /// The mechanism's registered name.
    pub fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The password as servers keep it (RFC 5802's Hi).
    pub fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec(),
            Self::Sha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec(),
        }
    }
}

/// An exchange that has begun.
#[derive(Debug)]
pub struct Scram {
    hash: Hash,
    nonce: String,
    first_bare: String,
}

/// An exchange whose last message is the server's.
pub struct Proved {
    server_signature: Vec<u8>,
}

impl Scram {
    /// Begins; `nonce` is any text without a comma that was never used before.
    pub fn new(hash: Hash, username: &str, nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self { hash, first_bare: format!("n={name},r={nonce}"), nonce }
    }

    /// The first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The proof, once the server has answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub fn prove(&self, password: &str, server_first: &str) -> Result<(String, Proved), &'static str> {
        let field = |name: char| {
            let mut fields = server_first.split(',');
            fields.find_map(|field| field.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
        };
        // RFC 5802, section 5.1: an unknown mandatory extension must fail the exchange.
        if server_first.split(',').any(|field| field.starts_with("m=")) {
            return Err("it requires an extension that kpipe does not support");
        }
        let nonce = field('r').filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len());
        let nonce = nonce.ok_or("its nonce does not continue ours")?;
        let salt = field('s').and_then(|salt| STANDARD.decode(salt).ok()).ok_or("its salt is malformed")?;
        let iterations = field('i').and_then(|count| count.parse().ok()).ok_or("its iteration count is malformed")?;
        if !(LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations) {
            return Err("its iteration count is out of bounds");
        }
        let hash = self.hash;
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("{},{server_first},{without_proof}", self.first_bare);
        let salted = hash.salted(password.as_bytes(), &salt, iterations);
        let mac = |key: &[u8], data: &[u8]| hash.hmac(key, data).ok_or("no key of this length");
        let client_key = mac(&salted, b"Client Key")?;
        let signature = mac(&hash.digest(&client_key), said.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server_signature = mac(&mac(&salted, b"Server Key")?, said.as_bytes())?;
        Ok((format!("{without_proof},p={}", STANDARD.encode(proof)), Proved { server_signature }))
    }
}

impl Proved {
    /// Checks that the server knows the password, too.
    ///
    /// # Errors
    /// It does not, or it refused.
    pub fn check(&self, server_final: &str) -> Result<(), String> {
        if let Some(error) = server_final.strip_prefix("e=") {
            return Err(error.to_owned());
        }
        let signature = server_final.strip_prefix("v=").and_then(|v| STANDARD.decode(v.split(',').next()?).ok());
        if signature.as_ref() == Some(&self.server_signature) {
            Ok(())
        } else {
            Err("the server's signature is wrong: it does not know the password".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_rfcs_example_is_spoken() {
        let scram = Scram::new(Hash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(scram.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, proved) = scram.prove("pencil", server).unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(proved.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert!(proved.check("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").is_err());
        assert_eq!(proved.check("e=other-error"), Err("other-error".to_owned()));
    }

    #[test]
    fn a_costly_or_extended_answer_is_refused() {
        let scram = || Scram::new(Hash::Sha256, "user", "n".to_owned());
        let answer = |text: &str| scram().prove("pw", text).err();
        assert_eq!(answer("r=nx,s=W22ZaJ0S,i=1000001"), Some("its iteration count is out of bounds"));
        assert_eq!(
            answer("m=new,r=nx,s=W22ZaJ0S,i=4096"),
            Some("it requires an extension that kpipe does not support")
        );
        assert_eq!(answer("r=nx,s=W22ZaJ0S,i=4096"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_met(answer in ".{0,80}") {
            let scram = Scram::new(Hash::Sha512, "a,b=c", "nonce".to_owned());
            prop_assert!(scram.first().contains("n=a=2Cb=3Dc,"));
            prop_assert!(scram.prove("pw", &answer).is_err());
        }
    }
}
