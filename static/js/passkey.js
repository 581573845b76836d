/*
 * The pages draw their passkey buttons (`data-passkey`) disabled, until allauth's script has wired them: it does so when
 * the document is there. A press before would send the form without a passkey, or be lost.
 */
addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-passkey]")) button.disabled = false;
});
