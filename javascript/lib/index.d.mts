export * from "./index.js";
export { OpenSourceAI as default } from "./index.js";
