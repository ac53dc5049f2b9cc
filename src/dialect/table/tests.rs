//! What holds for every row.

use super::*;
use crate::dialect::ApiSet;

#[test]
fn the_numbers_of_the_endpoints_index_their_list() {
    assert_eq!(Api::ALL.len(), ENDPOINTS.len());
    for (index, api) in Api::ALL.iter().enumerate() {
        assert_eq!(*api as usize, index);
        assert!(ApiSet::default().with(*api).contains(*api));
        let others = Api::ALL.iter().filter(|other| other.name() == api.name());
        assert_eq!(others.count(), 1, "{api:?}");
    }
    assert!(Api::ALL.len() <= u64::BITS as usize);
}

#[test]
fn a_set_has_what_was_put_in() {
    let set = ApiSet::of(&[Api::Chat, Api::ModelById]).without(Api::Chat).with(Api::Rerank);
    assert_eq!(set.iter().collect::<Vec<_>>(), [Api::Rerank, Api::ModelById]);
}

#[test]
fn what_has_an_id_is_asked_of_those_who_made_it() {
    let stored: Vec<Api> = Api::ALL.iter().copied().filter(|api| api.has_id()).collect();
    assert_eq!(stored.len(), 4);
    assert!(stored.iter().all(|api| api.served_as() == Api::Responses && api.streams()));
    let makers: Vec<Api> = Api::ALL.iter().copied().filter(|api| api.makes_ids()).collect();
    assert_eq!(makers, [Api::Responses]);
}

#[test]
fn only_generating_endpoints_cap_their_output() {
    for api in Api::ALL {
        let makes_text = matches!(api.task(), Task::Generate | Task::Complete | Task::Compact);
        assert_eq!(!api.endpoint().caps.is_empty(), makes_text, "{api:?}");
    }
}
