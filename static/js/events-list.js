/*
 * The events list: a changed filter (`data-submit-on-change`) shows its result at once. Without this script there is
 * the button.
 */
document.addEventListener("change", (event) => {
  const control = event.target;
  if (control instanceof Element && control.matches("[data-submit-on-change]")) control.form.requestSubmit();
});
