//! `desired`: being written.
use crate::ids::NodeId;
use crate::image::Image;
use crate::state::State;

pub(crate) fn desired(_state: &State, _node: NodeId) -> Image {
    Image::default()
}
