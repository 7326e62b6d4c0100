"""Parts that distilling objectives share: roles on one network, the teacher, the critic, the distilled time grid."""
