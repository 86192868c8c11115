"""elmo-deploy inside other systems, one file each; none of them is needed by the rest."""
