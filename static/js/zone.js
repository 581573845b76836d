/*
 * Tells the server the viewer's time zone, so that "today" is their today. A cookie, because the next page is plain HTML.
 */
const YEAR_S = 365 * 24 * 3600;
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) {
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `zone=${zone}; path=/; max-age=${YEAR_S}; samesite=lax${secure}`;
}
