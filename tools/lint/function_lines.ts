/**
 * A rule for `deno lint`: a function of the library has at most 60 lines of code. A table or a
 * parser may have more; it says so with an ignore comment.
 */
const MOST_LINES = 60;
const LIBRARY = /\/(?:src|adapters|cli)\/|\/(?:mod|adapter|auto|serve|testing|triggers|ws)\.ts$/;
const isCode = (line: string) => !/^\s*(?:\/\/|\/?\*|$)/.test(line);

const plugin: Deno.lint.Plugin = {
  name: "house",
  rules: {
    "function-lines": {
      create(context) {
        if (!LIBRARY.test(context.filename) || context.filename.includes("/tests/")) return {};
        function check(node: Deno.lint.Node): void {
          const lines = context.sourceCode.getText(node).split("\n").filter(isCode).length;
          if (lines <= MOST_LINES) return;
          context.report({
            node,
            message:
              `This function has ${lines} lines of code, more than ${MOST_LINES}: which steps does it have?`,
          });
        }
        return {
          FunctionDeclaration: check,
          FunctionExpression: check,
          ArrowFunctionExpression: check,
        };
      },
    },
  },
};
// Deno takes the default export as the plugin.
export default plugin;
