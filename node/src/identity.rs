//! stub
use crate::disk::LogDisk;
use crate::types::MemberIdentity;
/// stub
pub fn write_member(_disk: &dyn LogDisk, _identity: &MemberIdentity) -> std::io::Result<()> {
    todo!()
}
