"""What is known of models beforehand: names, prices, abilities, published scores. No network."""
