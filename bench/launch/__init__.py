"""Jobs on engines that outlive the command which started them."""
