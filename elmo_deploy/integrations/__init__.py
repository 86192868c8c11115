"""elmo-deploy in other systems, one file per system; no other module needs them."""
