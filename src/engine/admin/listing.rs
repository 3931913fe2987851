//! Listings that many brokers contribute to.

use crate::error::{Error, Result};

/// What was found, and why some of it may be missing.
#[derive(Debug)]
pub struct Listing<T> {
    /// What was found.
    pub found: Vec<T>,
    /// One error for each broker, topic or partition that is missing.
    pub incomplete: Vec<Error>,
}

impl<T> Listing<T> {
    /// All there is.
    pub fn whole(found: Vec<T>) -> Self {
        Self { found, incomplete: Vec::new() }
    }

    /// Puts the answers of those that were asked together.
    ///
    /// # Errors
    /// That of the first, where none answered.
    pub fn of_all(answers: impl IntoIterator<Item = Result<Vec<T>>>) -> Result<Self> {
        let (mut found, mut incomplete, mut is_answered) = (Vec::new(), Vec::new(), false);
        for answer in answers {
            match answer {
                Ok(mut part) => {
                    found.append(&mut part);
                    is_answered = true;
                }
                Err(error) => incomplete.push(error),
            }
        }
        match incomplete.first() {
            Some(error) if !is_answered => Err(error.clone()),
            _ => Ok(Self { found, incomplete }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_makes_a_listing_and_none_an_error() {
        let listing = Listing::of_all([Err(Error::NotTaken), Ok(vec![1]), Ok(vec![2])]).unwrap();
        assert_eq!((listing.found, listing.incomplete.len()), (vec![1, 2], 1));
        assert!(Listing::of_all([Err::<Vec<u8>, _>(Error::NotTaken), Err(Error::Stopped)]).is_err());
        assert!(Listing::<u8>::of_all([]).is_ok());
    }
}
