"""What the WebUI's page shows of this extension beside the accordion: tab, cards, and what stands under the galleries."""
