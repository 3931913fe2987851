//! Users with SCRAM credentials (KIP-554).

use super::{Cluster, NativeAdmin, refusal};
use crate::engine::Credential;
use crate::engine::native::cluster::{answer_to, answers_to, text};
use crate::engine::native::net::Hash;
use crate::engine::security::Secret;
use crate::error::{Action, Error, Result, Subject};
use bytes::Bytes;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{AlterUserScramCredentialsRequest, ApiKey, DescribeUserScramCredentialsRequest};

impl NativeAdmin {
    /// The credentials of all users, or of `users`.
    ///
    /// # Errors
    /// The cluster refused, or a user has no credentials (RESOURCE_NOT_FOUND).
    pub fn users(&self, users: &[String]) -> Result<Vec<Credential>> {
        self.repeat(|| self.cluster().users(users))
    }

    /// Sets the password of `user`, hashed here `iterations` times: brokers never see it.
    ///
    /// # Errors
    /// The cluster refused.
    pub fn set_password(&self, user: &str, hash: Hash, iterations: u32, password: &Secret) -> Result<()> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|e| Error::Io(format!("the system has no random numbers: {e}")))?;
        let salted = hash.salted(password.reveal().as_bytes(), &salt, iterations);
        let upsertion = ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(hash.number())
            .with_iterations(iterations as i32)
            .with_salt(Bytes::copy_from_slice(&salt))
            .with_salted_password(Bytes::from(salted));
        let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
        self.run(self.cluster().alter_user(user, &request))
    }

    /// Deletes a credential of `user`.
    ///
    /// # Errors
    /// The cluster refused, or the user has no such credential.
    pub fn delete_password(&self, user: &str, hash: Hash) -> Result<()> {
        let deletion = ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(hash.number());
        let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
        self.run(self.cluster().alter_user(user, &request))
    }
}

impl Cluster {
    async fn users(&self, users: &[String]) -> Result<Vec<Credential>> {
        let named = users.iter().map(|user| UserName::default().with_name(text(user))).collect();
        // Without names all are listed. Brokers that deny the request do not answer one without a list.
        let request = DescribeUserScramCredentialsRequest::default().with_users(Some(named));
        // With KRaft only the controller's view is complete at once.
        let controller = self.controller().await?;
        let answer = controller.request(&request).await?;
        refusal(Action::ListUsers, Subject::Cluster, answer.error_code, answer.error_message.as_ref())?;
        let results = answer.results.into_iter().map(|result| (result.user.to_string(), result));
        let results = match users.is_empty() {
            true => results.collect(),
            false => answers_to(&controller, ApiKey::DescribeUserScramCredentials, users.iter().cloned(), results)?,
        };
        let mut found = Vec::new();
        for (user, result) in &results {
            let subject = Subject::User(user.clone());
            refusal(Action::LookUp, subject, result.error_code, result.error_message.as_ref())?;
            found.extend(result.credential_infos.iter().map(|info| Credential {
                user: user.clone(),
                mechanism: Hash::of(info.mechanism).map_or("unknown", Hash::mechanism).to_owned(),
                iterations: info.iterations,
            }));
        }
        found.sort_by(|a, b| (&a.user, &a.mechanism).cmp(&(&b.user, &b.mechanism)));
        Ok(found)
    }

    async fn alter_user(&self, user: &str, request: &AlterUserScramCredentialsRequest) -> Result<()> {
        self.ask_controller(async |controller| {
            let answer = controller.request(request).await?;
            let results = answer.results.into_iter().map(|result| (result.user.to_string(), result));
            let result = answer_to(&controller, ApiKey::AlterUserScramCredentials, user.to_owned(), results)?;
            let subject = Subject::User(user.to_owned());
            refusal(Action::AlterUser, subject, result.error_code, result.error_message.as_ref())
        })
        .await
    }
}
