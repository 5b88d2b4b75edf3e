if (navigator.clipboard) document.querySelectorAll(".command").forEach((holder) => {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.setAttribute("aria-label", "Copy " + holder.dataset.what);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(holder.querySelector("pre").innerText);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  holder.append(button);
});
