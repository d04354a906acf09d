"""The white-box reward: text, features, recipes. Pure: no torch, no HTTP, no clock."""
