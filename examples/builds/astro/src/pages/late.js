const VERSION = 1;

/** Astro loads a page when it is asked for the first time. */
export const GET = () => new Response(`version ${VERSION}\n`);
