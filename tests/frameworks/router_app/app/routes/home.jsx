import { useLoaderData } from "react-router";
export const loader = () => ({ answer: `pid ${process.pid}` });
export default function Home() {
  return <p>{useLoaderData().answer}</p>;
}
